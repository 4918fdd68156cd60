"""Dependencies beyond those of the core come as extras; the error for a missing one says how to install it."""

from importlib.util import find_spec


class MissingExtraError(ImportError):
    """A part of the package needs an extra that is not installed; the message gives the command that installs it."""


def require(extra: str, *modules: str) -> None:
    """Raise an error unless all `modules`, which come with `extra`, can be imported.

    Raises
    ------
    MissingExtraError
        Modules are missing. The message is one line that names them and the command that installs the extra.

    Examples
    --------
    >>> require("slurm", "math", "no_such_module")
    Traceback (most recent call last):
    advtransfer.extras.MissingExtraError: no_such_module is not installed; install it with: ...
    """
    if missing := [name for name in modules if find_spec(name) is None]:
        is_not, them = ("is not", "it") if len(missing) == 1 else ("are not", "them")
        raise MissingExtraError(
            f"{', '.join(missing)} {is_not} installed; install {them} with: python -m pip install {_requirement(extra)}"
        )


def _requirement(extra: str) -> str:
    """The package with an extra, as pip takes it, from where it was installed if that is recorded (PEP 610)."""
    import json  # imported here, because only an error needs them
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        noted = distribution("advtransfer").read_text("direct_url.json")
    except PackageNotFoundError:
        noted = None
    if noted is None:
        return f"'advtransfer[{extra}]'"
    about = json.loads(noted)
    if about.get("dir_info", {}).get("editable"):
        return f"-e '{url2pathname(urlsplit(about['url']).path)}[{extra}]'"
    if vcs := about.get("vcs_info"):
        return f"'advtransfer[{extra}] @ {vcs['vcs']}+{about['url']}@{vcs['commit_id']}'"
    return f"'advtransfer[{extra}] @ {about['url']}'"
