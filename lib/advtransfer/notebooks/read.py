"""A notebook as the runner sees it: its parameters, its experiment, and what its result depends on.

A notebook is MyST Markdown. Its header names the module of its experiment. Its cell tagged ``parameters`` holds only
the defaults that differ from the Config of that experiment. Before the notebook runs, this cell is filled with one line
per field of the Config, ``name: type = default  # meaning``, as papermill reads it.
"""

import ast
import copy
import importlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jupytext
import nbformat

from advtransfer.names import one_line, unknown
from advtransfer.records import shipped, storage
from advtransfer.records.configs import Config, ConfigError, parameter_lines
from advtransfer.records.provenance import digest, package_hash, source_hash

ANSWERED = {"parameters", "cell", "inputs", "record", "differs", "files"}
"""What is kept of a question that was answered once (see `Notebook._answer`)."""


class NotebookError(ValueError):
    """A notebook that does not exist, or that lacks what the runner needs."""


@dataclass(frozen=True)
class Notebook:
    """A notebook in MyST Markdown."""

    path: Path
    text: str
    without: str = ""
    """A tag, whose cells are left out."""

    @cached_property
    def node(self) -> nbformat.NotebookNode:
        """The notebook as an nbformat node, whose cells have numbers instead of random names."""
        try:
            node = jupytext.reads(self.text, fmt="md:myst")
        except Exception as error:  # jupytext passes on whatever its parsers raise
            reason = one_line(error)
            raise NotebookError(f"{self.path} is not a notebook in MyST Markdown: {reason}") from None
        node.cells = [cell for cell in node.cells if self.without not in cell.metadata.get("tags", ())]
        node.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        for number, cell in enumerate(node.cells):
            cell["id"] = f"cell-{number}"
        return node

    @cached_property
    def experiment(self) -> str:
        """The name of its experiment's module, from the header."""
        header = self.node.metadata.get("advtransfer", {})
        if "experiment" not in header:
            raise NotebookError(f"{self.path}: its header has no 'advtransfer: experiment:'; expected a module there")
        return header["experiment"]

    @property
    def minutes(self) -> float:
        """Roughly how long it takes, from the header; 1 if that says nothing. Of several, the longest starts first."""
        return self.node.metadata.get("advtransfer", {}).get("minutes", 1)

    @cached_property
    def config_type(self) -> type[Config]:
        """The Config of its experiment."""
        return self.experiment_module.Config

    @cached_property
    def experiment_module(self) -> ModuleType:
        """The module of its experiment; importing it takes a moment."""
        try:
            module = importlib.import_module(self.experiment)
            module.Config  # noqa: B018 - every experiment has one
            return module
        except (ModuleNotFoundError, AttributeError) as error:
            raise NotebookError(f"{self.path}: experiment {self.experiment!r}: {error}") from None

    @cached_property
    def parameters_cell(self) -> nbformat.NotebookNode | None:
        """The cell tagged ``parameters``, if there is one."""
        return next((cell for cell in self.node.cells if "parameters" in cell.metadata.get("tags", ())), None)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The defaults that the parameters cell sets.

        Raises
        ------
        NotebookError
            The cell sets an unknown parameter, or a value that is not a plain literal.
        """
        cell = self.parameters_cell
        if cell is None:
            raise NotebookError(f"{self.path}: no cell has the tag 'parameters'; expected one, which may be empty")
        if not any(line.strip() and not line.startswith("#") for line in cell.source.splitlines()):
            return {}
        import papermill  # imported here, because it is slow and few notebooks have own defaults

        inspected = papermill.inspect_notebook(self.node)
        try:
            defaults = {name: ast.literal_eval(about["default"]) for name, about in inspected.items()}
        except (ValueError, SyntaxError):
            raise NotebookError(
                f"{self.path}: its parameters cell has a default that is not a literal; expected a plain value"
            ) from None
        self.check_names(defaults)
        return defaults

    def filled(self, lines: str) -> nbformat.NotebookNode:
        """A copy of the notebook to execute, with these lines in its parameters cell."""
        node = copy.deepcopy(self.node)
        node.cells[self.node.cells.index(self.parameters_cell)].source = lines
        return node

    def resolve(self, given: dict[str, Any]) -> "Resolved":
        """Check parameters, and find out what a run with them depends on.

        Raises
        ------
        ConfigError
            One line for every parameter that cannot be used.
        """
        answer = self._answer(given)
        name = self.experiment.rpartition(".")[2]
        shown = [path for pattern in ("*.csv", "paper/*.csv") for path in sorted(shipped.folder().glob(pattern))]
        patterns = ("*.csv", "*.json", f"{name}/**/*.json")
        shown += [path for pattern in patterns for path in sorted(shipped.results().glob(pattern))]
        depends = [self.text, self.without, answer["parameters"], self._source, answer["inputs"]]
        key = digest([*depends, [storage.sha256(path) for path in shown]])
        from advtransfer.records.runs import place  # imported here, because it is slow

        record = place(name, answer["record"])
        return Resolved(answer["parameters"], key, record, answer["cell"], answer["differs"])

    def obstacles(self, given: dict[str, Any]) -> list[str]:
        """One line for each reason why a run with these parameters cannot start on this machine.

        Such reasons are data sets that are missing or damaged, and what the experiment itself finds (`unusable`).
        """
        from advtransfer.datasets.presence import problems  # imported here, because it is slow

        module, config = self.experiment_module, self.config(given)
        missing = problems(module.required(config)) if hasattr(module, "required") else []
        return missing or (module.unusable(config) if hasattr(module, "unusable") else [])

    def check_runnable(self, given: dict[str, Any]) -> None:
        """Raise a `NotebookError` with the `obstacles` of a run that has no record yet."""
        if not self.resolve(given).record.is_dir() and (found := self.obstacles(given)):
            raise NotebookError(f"{self.path.stem} cannot run here:\n" + "\n".join(found))

    @cached_property
    def _source(self) -> list[str]:
        return [package_hash(), source_hash(self.experiment)]

    def check_names(self, names: Iterable[str]) -> None:
        """Raise a `ConfigError` that suggests the most similar parameter if one of `names` is unknown."""
        known = list(self.config_type.model_fields)
        for name in names:
            if name not in known:
                raise ConfigError(f"{unknown('parameter', name, known)} (in {self.path.name})")

    def config(self, given: dict[str, Any]) -> Config:
        """The Config of a run with these parameters.

        Raises
        ------
        ConfigError
            One line for every parameter that cannot be used.
        """
        self.check_names(given)
        return self.config_type.from_profile(**{**self.defaults, **given})

    def _answer(self, given: dict[str, Any]) -> dict[str, Any]:
        """The parameters as the Config reads them, the parameters cell, the inputs, and the key of the record.

        Importing an experiment takes seconds, and the answer depends only on what is hashed here and on the files that
        the experiment reads. So the answer is kept in the cache.
        """
        asked = {name: repr(value) for name, value in given.items()}
        question = digest([self.text, self.experiment, asked, self._source, str(storage.data_root())])
        memo = storage.cache_root() / "resolved" / f"{question}.json"
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):  # missing or damaged
            answer = json.loads(memo.read_text(encoding="utf-8"))
            if answer.keys() >= ANSWERED and all(_stamp(path) == noted for path, noted in answer["files"].items()):
                return answer
        config = self.config(given)
        values = config.model_dump(mode="json")
        from advtransfer.records.runs import address, files  # imported here, because it is slow

        module = self.experiment_module
        origin, key = address(module, config)
        read = files(module, config).values()
        usual = self.config({"profile": values["profile"]}).model_dump(mode="json")
        usual["profile"] = self.config({}).profile
        chosen = {name: value for name, value in values.items() if name in given}  # in one order, however it was typed
        answer = {
            "parameters": chosen,
            "cell": parameter_lines(self.config_type, self.defaults),
            "inputs": origin["inputs"],
            "record": key,
            "differs": {name: value for name, value in chosen.items() if value != usual[name]},
            "files": {str(path): _stamp(str(path)) for path in _with_folders(read)},
        }
        if None not in read:  # a file whose location is not known may appear anywhere
            with suppress(OSError), storage.replacing(memo) as draft:  # a cache may be read-only
                draft.write_text(json.dumps(answer), encoding="utf-8")
        return answer


class Resolved(NamedTuple):
    """A run of a notebook, with checked parameters."""

    parameters: dict[str, Any]
    """The parameters as the notebook receives them."""
    key: str
    """A digest of all that the executed notebook depends on: its text, the parameters, the source of its experiment and
    of this package, the data that its experiment reads, and the published tables and records that it may show."""
    record: Path
    """Where its experiment keeps the record."""
    cell: str
    """The source of its parameters cell."""
    differs: dict[str, Any]
    """The given parameters that differ from the notebook's defaults in their profile, and a profile that differs."""


def _with_folders(files: Iterable[Path | None]) -> set[Path]:
    """Files and the two folders above each, which change when a file is added beside them."""
    return {each for path in files if path for each in (path, *path.absolute().parents[:2])}


def _stamp(path: str) -> list[int] | None:
    return list(storage.stamp(Path(path))) if Path(path).exists() else None


def read(path: Path, without: str = "") -> Notebook:
    """Read the notebook at `path` (``.md``), without the cells that have the tag `without`.

    Raises
    ------
    NotebookError
        There is no such file, or it holds something else.
    """
    if not path.is_file():
        if not path.parent.is_dir():
            raise NotebookError(f"no notebook {path.stem!r}: there is no folder {path.parent} here; expected to run in "
                                "the folder of the book, or the path of a notebook")  # fmt: skip
        names = sorted(other.stem for other in path.parent.glob("*.md"))
        raise NotebookError(f"{unknown('notebook', path.stem, names)} (in {path.parent})")
    try:
        return Notebook(path, path.read_text(encoding="utf-8-sig"), without)
    except UnicodeDecodeError as error:
        raise NotebookError(f"{path} is not a notebook in MyST Markdown: {error}") from None
