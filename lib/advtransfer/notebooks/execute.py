"""Execute a notebook with papermill, under strict rules: parameters are checked first, and nothing runs twice."""

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
    """A notebook that was started and failed."""


@dataclass(frozen=True)
class Outcome:
    """The path of the executed notebook, and whether this call has executed it."""

    path: Path
    executed: bool


def run(
    notebook: Path, parameters: dict[str, Any] | None = None, *, out: Path | None = None, whole: bool = False
) -> Outcome:
    """Execute `notebook` (MyST Markdown) and write it as ``NAME.ipynb`` beside it, or into the folder `out`.

    With `whole`, the page ``NAME.html`` and the folder ``NAME.record`` are written, too. Nothing is done if these files
    exist and nothing has changed since: the notebook, its parameters, the source, or the data. The notebook runs in
    its own folder, on the Python that runs this function.

    Parameters
    ----------
    notebook
        The path of the ``.md`` file.
    parameters
        By name; each must be a field of the Config of its experiment.

    Raises
    ------
    NotebookError, ConfigError
        Before anything is started.
    RunError
        A cell fails; the notebook up to there is kept as ``NAME.failed.ipynb``.
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
    """Write the page and the record of an executed notebook, unless they exist; return whether they did."""
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
    """Execute the cells in the folder of `source`. If a cell fails, the notebook up to there is kept as `failed`."""
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
    """A kernel manager for the Python that runs this, whatever kernels the user has installed."""
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
    """The terminal on which a kernel can show its progress bars, if there is one."""
    with suppress(OSError, ValueError):
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


def _key(path: Path) -> str | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["metadata"]["advtransfer"]["key"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
