"""Execute a notebook with papermill, under strict rules: parameters are checked first, and nothing runs twice."""

import json
import os
import re
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from advtransfer.notebooks import executed
from advtransfer.notebooks.read import NotebookError, Resolved, read
from advtransfer.records import storage

KERNEL = {
    "PYTHONHASHSEED": "0",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore:IProgress",  # tqdm.auto, which transformers imports, warns of a missing widget
    # Let glibc keep freed memory for the next step of an attack or of training. By default it returns the memory to the
    # system after each step and faults it in again.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}
"""Environment variables of the kernels that execute notebooks."""

LABEL = 80  # letters of the parameters in the name of a run


class RunError(RuntimeError):
    """A notebook that was started and failed."""


@dataclass(frozen=True)
class Outcome:
    """The path of the executed notebook, and what this call did."""

    path: Path
    executed: bool
    """Whether it was executed, or its page or record written."""
    files: tuple[Path, ...]
    """Everything that belongs to the run."""
    edited: Path | None
    """Where an edited notebook was put that stood in its place."""


def run(
    notebook: Path, parameters: dict[str, Any] | None = None, *, out: Path | None = None, whole: bool = False,
    without: str = "", named: bool = False,
) -> Outcome:  # fmt: skip
    """Execute `notebook` (MyST Markdown) and write it as ``NAME.ipynb`` beside it, or into the folder `out`.

    With `whole`, the page ``NAME.html`` and the folder ``NAME.record`` are written, too. Nothing is done if these files
    exist and the notebook, its parameters, the source and the data have not changed since. The notebook runs in its
    own folder, with the Python that runs this function.

    Only an older version of the same run is replaced. A run that would take the place of another one has its
    parameters in its name, such as ``synthetic-seed-1.ipynb``; with `named`, and in a book (with a ``_toc.yml``), where
    the page has the name ``NAME.ipynb``, so has every run whose parameters differ from the defaults. An executed
    notebook that was edited is kept as ``NAME.edited.ipynb``.

    Parameters
    ----------
    notebook
        The path of the ``.md`` file.
    parameters
        Parameters by name; each must be a field of the Config of the notebook's experiment.
    without
        A tag, whose cells are left out.
    named
        Whether every run whose parameters differ from the defaults has them in its name.

    Raises
    ------
    NotebookError, ConfigError
        The notebook or its parameters cannot be used; or, with `whole`, there is no record, and what the notebook
        needs is missing here, such as data. Raised before anything is started. Without `whole` the pages say themselves
        which data are missing.
    RunError
        A cell fails; the notebook up to this cell is kept as ``NAME.failed.ipynb``.
    """
    source = read(notebook, without)
    resolved = source.resolve(parameters or {})
    if whole:
        source.check_runnable(parameters or {})
    target = _target(notebook, resolved, out, named)
    edited = None
    try:
        noted = executed.about(target)
        fresh = noted["key"] == resolved.key
        if fresh and whole and noted["digest"] and not executed.is_record(target.with_suffix(".record"), target):
            executed.record_of(target)
    except executed.RecordLost:  # as after the cache was emptied
        fresh = False
    except NotebookError:
        fresh = False
        if target.exists():
            edited = _unused(target.with_suffix(".edited.ipynb"))
    if not fresh:
        storage.writable_folder(target.parent)
        if not resolved.record.is_dir():
            storage.writable_folder(storage.cache_root())
        failed = target.with_suffix(".failed.ipynb")
        node, made = execute(source.filled(resolved.cell), resolved.parameters, source.path, failed)
        own = [each for each in made if each["experiment"] == source.experiment.rpartition(".")[2]]
        asked = [each for each in own if each["record"] == resolved.record.name]
        record = (asked or own or [{"record": resolved.record.name, "digest": ""}])[-1]
        about = {"experiment": source.experiment, "parameters": resolved.parameters, "key": resolved.key}
        executed.mark(
            node, {**about, "differs": resolved.differs, "record": record["record"], "digest": record["digest"]}
        )
        if edited:
            os.replace(target, edited)
        with storage.locked(target.with_stem(notebook.stem)):  # another run may have taken the name by now
            target = _target(notebook, resolved, out, named)
            target.with_suffix(".html").unlink(missing_ok=True)  # of what was there before
            with storage.replacing(target) as draft:
                nbformat.write(node, draft)
        failed.unlink(missing_ok=True)
    files = [target]
    if whole:
        files += [target.with_suffix(".html"), target.with_suffix(".record")]
        fresh &= _beside(target, made=not fresh)
    return Outcome(target, not fresh, tuple(files), edited)


def up_to_date(notebook: Path, resolved: Resolved, out: Path | None = None, *, named: bool = False) -> Path | None:
    """The executed notebook with these parameters, if `run` has nothing to do for it (without `whole`)."""
    target = _target(notebook, resolved, out, named)
    with suppress(NotebookError):
        return target if executed.about(target)["key"] == resolved.key else None
    return None


def _target(notebook: Path, resolved: Resolved, out: Path | None, named: bool) -> Path:
    """Where a run is written: ``NAME.ipynb``, or with its parameters in the name (see `run`)."""
    folder, book = out or notebook.parent, out is None and (notebook.absolute().parents[1] / "_toc.yml").is_file()
    plain = folder / f"{notebook.stem}.ipynb"
    taken = not book and is_another_run(plain, resolved)
    if not taken and not (resolved.differs and (named or book)):
        return plain
    if not resolved.differs:
        return folder / f"{notebook.stem}-defaults.ipynb"
    shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in resolved.differs.items()}
    label = "-".join(str(value) if name == "profile" else f"{name}-{value}" for name, value in shown.items())
    stem = f"{notebook.stem}-" + re.sub(r"[^\w.]+", "-", label)[:LABEL].strip("-.")
    own = folder / f"{stem}.ipynb"
    return own.with_stem(f"{stem}-{resolved.key[:8]}") if is_another_run(own, resolved) else own


def _unused(path: Path) -> Path:
    """`path`, or the first of ``NAME-2``, ``NAME-3``, ... that does not exist."""
    names = (path, *(path.with_stem(f"{path.stem}-{number}") for number in range(2, 1000)))
    return next(name for name in names if not name.exists())


def is_another_run(path: Path, resolved: Resolved) -> bool:
    """Whether a file is a run with other parameters; an edited notebook counts as the run that it was."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        noted = json.loads(path.read_text(encoding="utf-8"))["metadata"]["advtransfer"]
        return noted["differs"] != resolved.differs
    return False


def _beside(target: Path, *, made: bool) -> bool:
    """Write the page and the record of an executed notebook, unless they exist; return whether they did."""
    page, record = target.with_suffix(".html"), target.with_suffix(".record")
    there = not made and page.exists() and executed.is_record(record, target)
    if not there:
        from advtransfer.notebooks.export import write_html  # imported here, because it is slow

        kept = executed.record_of(target)
        write_html(target, page)
        if kept != record:
            with storage.locked(record), storage.replacing(record) as draft:
                shutil.copytree(kept, draft)
    return there


def execute(
    notebook: nbformat.NotebookNode, values: dict[str, Any], source: Path, failed: Path
) -> tuple[nbformat.NotebookNode, list[dict[str, Any]]]:
    """Execute the cells in the folder of `source`; return the notebook and which records its cells made.

    If a cell fails, the notebook up to it is kept as `failed`.
    """
    import papermill  # imported here, because it is slow and a fresh notebook does not need it
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    with tempfile.TemporaryDirectory() as scratch:
        draft, notes = Path(scratch) / failed.name, Path(scratch) / "records"
        notes.touch()
        try:
            node = papermill.execute_notebook(
                notebook,
                draft,
                values,
                kernel_name="python3",
                language="python",
                kernel_manager_class=_own_kernel(notes),
                coalesce_streams=True,
                shutdown_kernel="immediate",
                progress_bar=False,
                request_save_on_cell_execute=False,
                cwd=source.parent,
            )
        except PapermillExecutionError as error:
            shutil.copyfile(draft, failed)
            tail = "\n".join(f"    {line}" for line in str(error).strip().splitlines()[-12:])
            where = f"{source}, cell {error.cell_index + 1} (In [{error.exec_count}])"
            raise RunError(f"{where}: {error.ename}: {error.evalue}\n{tail}\n    kept as {failed}") from None
        except DeadKernelError as error:
            raise RunError(f"{source}: its kernel died ({error}); is there enough memory?") from None
        except RuntimeError as error:  # a kernel that does not answer
            raise RunError(f"{source}: its kernel did not start ({error})") from None
        noted = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
    for line in dict.fromkeys(each["line"] for each in noted if "line" in each):
        print(f"note: {line}", file=sys.stderr)
    return _settled(node), [each for each in noted if "record" in each]


def _own_kernel(notes: Path) -> type:
    """A kernel manager for the Python that runs this, whatever kernels the user has installed."""
    from ipykernel.kernelspec import make_ipkernel_cmd
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class OwnKernel(AsyncKernelManager):
        kernel_spec = KernelSpec(
            argv=make_ipkernel_cmd(executable=sys.executable, extra_arguments=["--log-level=CRITICAL"]),
            display_name="Python 3",
            language="python",
            env={**KERNEL, **_terminal(), **_roots(), storage.NOTES: str(notes)},
        )

    return OwnKernel


def _roots() -> dict[str, str]:
    """Where data and records are, as paths that mean the same in the folder in which a kernel runs."""
    return {"ADVTRANSFER_DATA": str(storage.data_root()), "ADVTRANSFER_CACHE": str(storage.cache_root())}


def _terminal() -> dict[str, str]:
    """The terminal on which a kernel can show its progress bars, if there is one."""
    with suppress(OSError, ValueError):
        if os.environ.get("TQDM_DISABLE"):  # as where several notebooks run at once
            return {}
        return {"ADVTRANSFER_TERMINAL": os.ttyname(sys.stderr.fileno())}
    return {}


def _settled(node: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove what differs between two equal runs: times, durations, random names."""
    node.metadata.pop("papermill", None)
    for number, cell in enumerate(node.cells):
        cell["id"] = f"cell-{number}"
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
    return node
