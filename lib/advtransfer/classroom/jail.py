"""The bubblewrap command around a submission: what it sees, and the system calls that it is refused.

A submission sees the system, the Python environment and this library without its grading parts, all read-only,
and an empty folder in memory. There is no network, no other process, and no file of the class.
"""

import ctypes
import ctypes.util
import errno
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

from advtransfer.classroom.processes import ONE_THREAD

LIBRARY = Path(__file__).parents[1]
INSIDE = "/advtransfer-library"
SHOWN = ("__init__.py", "wire.py", "driver.py")  # the only files of this package that a submission sees
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
OLDEST = (0, 8, 0)  # the first bubblewrap with --disable-userns

# Flatpak refuses most of these, too. What is not in its list takes memory that belongs to no process, or another core.
REFUSED = (
    "memfd_create", "memfd_secret", "shmget", "shmat", "shmctl", "msgget", "semget", "io_uring_setup",
    "userfaultfd", "bpf", "perf_event_open", "add_key", "keyctl", "request_key", "acct", "quotactl", "syslog",
    "uselib", "personality", "ptrace", "process_vm_readv", "process_vm_writev", "unshare", "setns", "mount",
    "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick",
    "mount_setattr", "sched_setaffinity", "sched_setscheduler", "sched_setattr", "sched_setparam", "setpriority",
    "ioprio_set",
)  # fmt: skip
NEW_USER_NAMESPACE = 0x10000000


def visible() -> list[Path]:
    """The folders that a submission can read."""
    prefixes = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)}
    return [Path(path) for path in SYSTEM if Path(path).exists()] + sorted(prefixes)


def python() -> str:
    """The path of this Python without links to its environment, because only what they lead to is visible."""
    place = Path(sys.executable)
    inside = place.is_relative_to(sys.prefix)
    return str(Path(sys.prefix).resolve() / place.relative_to(sys.prefix) if inside else place)


def refusal(*private: Path) -> str | None:
    """Why submissions cannot be run safely here, in one line; None if they can.

    Parameters
    ----------
    private
        Files and folders that no submission may see.
    """
    for path in private:
        if seen := next((root for root in visible() if path.resolve().is_relative_to(root.resolve())), None):
            return f"{path} is inside {seen}, which submissions can read; expected it elsewhere"
    if not sys.platform.startswith("linux"):
        return f"bubblewrap needs Linux, and this is {sys.platform}; grade in a Linux container or virtual machine"
    if shutil.which("bwrap") is None:
        return "bwrap was not found; install bubblewrap (Debian, Ubuntu, Fedora: the package `bubblewrap`)"
    said = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, timeout=30).stdout
    oldest = ".".join(map(str, OLDEST))
    if tuple(map(int, re.findall(r"\d+", said)[:3])) < OLDEST:
        return f"bwrap says that it is {said.strip()!r}; expected version {oldest} or later"
    try:
        with system_calls() as rules:
            command, _ = arguments(disk=2**20, rules=rules)
            tried = subprocess.run(
                [*command, python(), "-c", ""], capture_output=True, text=True, timeout=30, pass_fds=[rules.fileno()]
            )
    except OSError as error:
        return f"the filter of system calls cannot be made: {error}"
    return (
        None
        if tried.returncode == 0
        else f"Python does not start in bwrap here: {tried.stderr.strip() or tried.returncode}"
    )


def arguments(*, disk: int, rules: IO[bytes], withheld: Sequence[str] = ()) -> tuple[list[str], int | None]:
    """The start of a bwrap command, and the user id to switch to inside (None if bwrap itself does this).

    Parameters
    ----------
    disk : int
        Bytes of files, in each of ``/tmp`` and ``/dev/shm``.
    rules : file
        From `system_calls`; the process that starts bwrap has to pass it on.
    withheld
        Modules of this library that are empty inside.
    """
    command = ["bwrap", "--die-with-parent", "--new-session", "--unshare-ipc", "--unshare-pid", "--unshare-net"]
    command += ["--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL", "--clearenv", "--proc", "/proc"]
    command += ["--seccomp", str(rules.fileno())]
    uid = None
    if os.getuid() == 0:  # a user id of its own, which owns nothing here
        uid = 2**30 + secrets.randbelow(2**20)
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"]
    command += ["--dev", "/dev", "--perms", "1777", "--size", str(disk), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    command += ["--perms", "1777", "--size", str(disk), "--tmpfs", "/tmp"]
    package = Path(INSIDE) / "advtransfer"
    parents = {parent for path in [*visible(), package] for parent in path.parents}
    for parent in sorted(parents - {Path("/"), Path("/tmp")}):  # bwrap itself would make them readable for root only
        command += ["--perms", "0755", "--dir", str(parent)]
    for path in visible():
        command += ["--symlink", os.readlink(path), str(path)] if path.is_symlink() else ["--ro-bind", *[str(path)] * 2]
    if any(LIBRARY.is_relative_to(path) for path in visible()):  # an installed copy would show what is hidden below
        command += ["--tmpfs", str(LIBRARY)]
    command += ["--ro-bind", str(LIBRARY), str(package)]
    own = [package / "classroom"]  # and the byte code of what is withheld
    own += [package / folder / "__pycache__" for folder in sorted({Path(name).parent for name in withheld})]
    for folder in own:
        with suppress(OSError):  # where it cannot be made, there will be no byte code either
            (LIBRARY / folder.relative_to(package)).mkdir(exist_ok=True)
    own = [folder for folder in own if (LIBRARY / folder.relative_to(package)).is_dir()]
    for folder in own:
        command += ["--perms", "0755", "--tmpfs", str(folder)]
    for name in SHOWN:
        command += ["--ro-bind", str(LIBRARY / "classroom" / name), str(package / "classroom" / name)]
    for name in withheld:
        command += ["--ro-bind", "/dev/null", str(package / f"{name}.py")]
    for folder in [*own, Path("/")]:
        command += ["--remount-ro", str(folder)]
    command += ["--chdir", "/tmp"]
    for name, value in environment("/tmp", INSIDE).items():
        command += ["--setenv", name, value]
    return command, uid


def environment(home: str, library: str) -> dict[str, str]:
    """The environment variables of a submission."""
    return ONE_THREAD | {
        "HOME": home, "TMPDIR": home, "USER": "student", "LOGNAME": "student", "LANG": "C.UTF-8",
        "PATH": "/usr/bin:/bin", "PYTHONPATH": library, "PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "agg",
        "ADVTRANSFER_CACHE": f"{home}/cache", "ADVTRANSFER_DATA": f"{home}/data",
    }  # fmt: skip


class _Argument(ctypes.Structure):
    """libseccomp's ``scmp_arg_cmp``."""

    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def system_calls() -> IO[bytes]:
    """An open file with the program that refuses the system calls in `REFUSED`, and user namespaces, in any way.

    Raises
    ------
    OSError
        libseccomp is missing or does not work here.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(_program())
    file.seek(0)
    return file


@cache
def _program() -> bytes:
    """The compiled filter: what is refused fails with EPERM; clone3, whose flags a filter cannot read, with ENOSYS."""
    name = ctypes.util.find_library("seccomp") or "libseccomp.so.2"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        raise OSError("libseccomp was not found; install it (Debian, Ubuntu: the package `libseccomp2`)") from None
    library.seccomp_init.restype = ctypes.c_void_p
    allow, refuse = 0x7FFF0000, lambda number: 0x00050000 | number
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(allow)))

    def add(call: str, number: int, *conditions: _Argument) -> None:
        resolved = library.seccomp_syscall_resolve_name(call.encode())
        if resolved == -1:  # this libseccomp does not know it
            return
        given = (_Argument * len(conditions))(*conditions)
        action = ctypes.c_uint32(refuse(number))
        if code := library.seccomp_rule_add_array(rules, action, resolved, len(conditions), given):
            raise OSError(-code, f"libseccomp refuses a rule for {call}")

    try:
        for call in REFUSED:
            add(call, errno.EPERM)
        add("clone", errno.EPERM, _Argument(0, 7, NEW_USER_NAMESPACE, NEW_USER_NAMESPACE))  # 7: equal under a mask
        add("clone3", errno.ENOSYS)
        with tempfile.TemporaryFile() as file:
            if code := library.seccomp_export_bpf(rules, file.fileno()):
                raise OSError(-code, "libseccomp cannot export the filter")
            file.seek(0)
            return file.read()
    finally:
        library.seccomp_release(rules)
