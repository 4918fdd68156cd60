"""Execute a notebook with papermill, strictly: checked before, clean after, and only when something changed."""

import json
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from advtransfer.notebooks.read import read
from advtransfer.records import storage

KERNEL = {
    "PYTHONHASHSEED": "0",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore:IProgress",  # tqdm.auto, which transformers imports, misses a widget
    # glibc keeps freed memory for the next step of an attack or a training; it would return and fault it in each time.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}
"""Environment variables of the kernels that execute notebooks."""


class RunError(RuntimeError):
    """A notebook that was started and did not end well."""


@dataclass(frozen=True)
class Outcome:
    """Where the executed notebook lies, and whether this call has executed it."""

    path: Path
    executed: bool


def run(
    notebook: Path, parameters: dict[str, Any] | None = None, *, out: Path | None = None, whole: bool = False
) -> Outcome:
    """Execute `notebook` (MyST Markdown) and write it as ``NAME.ipynb`` beside it, or into the folder `out`.

    With `whole`, the page ``NAME.html`` and the folder ``NAME.record`` are written, too. Nothing is done when that
    is there and neither the notebook, its parameters, the source it imports nor the data it reads have changed
    since. It runs in its own folder, on the Python that runs this.

    Parameters
    ----------
    notebook
        The path of the ``.md`` file.
    parameters
        By name; each must be in the notebook's parameters cell and fit the Config of its experiment.

    Raises
    ------
    NotebookError, ConfigError
        Before anything is started.
    RunError
        When a cell fails; what there is of the notebook is kept as ``NAME.failed.ipynb``.
    """
    source = read(notebook)
    resolved = source.resolve(parameters or {})
    target = (out or notebook.parent) / f"{notebook.stem}.ipynb"
    fresh = _key(target) == resolved.key
    if not fresh:
        storage.writable_folder(target.parent)
        failed = target.with_suffix(".failed.ipynb")
        executed = execute(source.filled(resolved.cell), resolved.parameters, source.path, failed)
        about = {
            "experiment": source.experiment,
            "parameters": resolved.parameters,
            "key": resolved.key,
            "record": resolved.record.name,
        }
        executed.metadata["advtransfer"] = about
        with storage.replacing(target) as draft:
            nbformat.write(executed, draft)
        failed.unlink(missing_ok=True)
    if whole:
        fresh &= _beside(target, resolved.record, made=not fresh)
    return Outcome(target, executed=not fresh)


def _beside(target: Path, kept: Path, *, made: bool) -> bool:
    """Write the page and the record of an executed notebook, unless they are there; whether they were."""
    page, record = target.with_suffix(".html"), target.with_suffix(".record")
    there = not made and page.exists() and record.exists()
    if not there:
        from advtransfer.notebooks.export import write_html  # here, as it takes a while

        if not kept.is_dir():
            raise RunError(f"{target}: the source or the data changed while it ran; run it again")
        write_html(target, page)
        with storage.replacing(record) as draft:
            shutil.copytree(kept, draft)
    return there


def execute(
    notebook: nbformat.NotebookNode, values: dict[str, Any], source: Path, failed: Path
) -> nbformat.NotebookNode:
    """Execute a notebook's cells in its own folder; what there is after a cell fails is kept as `failed`."""
    import papermill  # here, as it takes a while and a fresh notebook needs none of it
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / failed.name
        try:
            node = papermill.execute_notebook(
                notebook,
                draft,
                values,
                kernel_name="python3",
                language="python",
                kernel_manager_class=_own_kernel(),
                coalesce_streams=True,
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
    return _settled(node)


def _own_kernel() -> type:
    """Give the kernel manager for the Python that runs this, whatever kernels the user has installed."""
    from ipykernel.kernelspec import make_ipkernel_cmd
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class OwnKernel(AsyncKernelManager):
        kernel_spec = KernelSpec(
            argv=make_ipkernel_cmd(executable=sys.executable, extra_arguments=["--log-level=CRITICAL"]),
            display_name="Python 3",
            language="python",
            env={**KERNEL, **_terminal()},
        )

    return OwnKernel


def _terminal() -> dict[str, str]:
    """Tell a kernel where its progress bars can be seen, if somebody watches."""
    with suppress(OSError, ValueError):
        return {"ADVTRANSFER_TERMINAL": os.ttyname(sys.stderr.fileno())}
    return {}


def _settled(node: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out what differs between runs that are the same: times, durations, random names."""
    node.metadata.pop("papermill", None)
    for number, cell in enumerate(node.cells):
        cell["id"] = f"cell-{number}"
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
    return node


def _key(path: Path) -> str | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["metadata"]["advtransfer"]["key"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
