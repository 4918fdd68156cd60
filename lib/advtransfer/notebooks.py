"""A notebook as the runner sees it: its parameters, its experiment, and what its result depends on.

A notebook is MyST Markdown. Its header names the module of its experiment, and its cell tagged
``parameters`` declares one parameter a line, as papermill reads it: ``name: type = default  # meaning``.
"""

import ast
import importlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import jupytext
import nbformat

from advtransfer import storage
from advtransfer.configs import Config, ConfigError, unknown
from advtransfer.provenance import digest, source_hash

PACKAGE = Path(__file__).parent
PUBLISHED = Path(__file__).parents[2] / "data"


class NotebookError(ValueError):
    """A notebook that is not there, or is not made as the runner needs it."""


@dataclass(frozen=True)
class Notebook:
    """A notebook in MyST Markdown."""

    path: Path
    text: str

    @cached_property
    def node(self) -> nbformat.NotebookNode:
        """The notebook as nbformat holds it, with cells numbered rather than named at random."""
        node = jupytext.reads(self.text, fmt="md:myst")
        node.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        for number, cell in enumerate(node.cells):
            cell["id"] = f"cell-{number}"
        return node

    @cached_property
    def experiment(self) -> str:
        """The module of its experiment, from the header."""
        header = self.node.metadata.get("advtransfer", {})
        if "experiment" not in header:
            raise NotebookError(f"{self.path}: its header has no 'advtransfer: experiment:'; expected a module there")
        return header["experiment"]

    @cached_property
    def config_type(self) -> type[Config]:
        """The Config of its experiment."""
        return self.experiment_module.Config

    @cached_property
    def experiment_module(self) -> ModuleType:
        """Its experiment; importing it takes a moment."""
        try:
            module = importlib.import_module(self.experiment)
            module.Config  # noqa: B018 - every experiment has one
            return module
        except (ModuleNotFoundError, AttributeError) as error:
            raise NotebookError(f"{self.path}: experiment {self.experiment!r}: {error}") from None

    @cached_property
    def parameters(self) -> dict[str, dict[str, str]]:
        """By name: ``inferred_type_name``, ``default`` and ``help`` of each parameter, as papermill reads them."""
        import papermill

        return papermill.inspect_notebook(self.node)

    @cached_property
    def modules(self) -> list[str]:
        """The modules of this package that its cells import, and its experiment."""
        names = {self.experiment}
        for number, cell in enumerate(self.node.cells, start=1):
            if cell.cell_type == "code":
                try:
                    names |= set(_imports(cell.source))
                except SyntaxError as error:
                    raise NotebookError(f"{self.path}: cell {number}, line {error.lineno}: {error.msg}") from None
        return sorted(names)

    def disagreements(self) -> list[str]:
        """One line for each way in which its parameters cell and the Config of its experiment differ."""
        fields = self.config_type.model_fields
        found = [f"{name}: not in the parameters cell" for name in fields if name not in self.parameters]
        for name, told in self.parameters.items():
            if name not in fields:
                found.append(unknown("parameter", name, list(fields)))
                continue
            default = repr(fields[name].default) if name in ("profile", "seed") else "None"
            if ast.literal_eval(told["default"]) != ast.literal_eval(default):
                found.append(f"{name}: default {told['default']}; expected {default}")
            if told["inferred_type_name"] == "None":
                found.append(f"{name}: no type; expected e.g. '{name}: float = ...'")
            if not told["help"]:
                found.append(f"{name}: no comment; expected '# {fields[name].description}'")
        return found

    def resolve(self, given: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Check parameters and return them as the notebook shall get them, with the key of the run.

        The key stands for all that the executed notebook depends on: its text, the parameters, the source it
        imports, the data its experiment reads, and the published tables and records it may show.

        Raises
        ------
        ConfigError
            One line for every parameter that cannot be used.
        """
        self.check_names(given)
        answer = self._resolved(given)
        results = f"results/{self.experiment.rpartition('.')[2]}/*/record.json"
        shown = sorted([*PUBLISHED.glob("paper/*.csv"), *PUBLISHED.glob(results)])
        depends = [self.text, answer["parameters"], source_hash(*self.modules), answer["inputs"]]
        return answer["parameters"], digest([*depends, [storage.sha256(path) for path in shown]])

    def check_names(self, names: Iterable[str]) -> None:
        """Raise a `ConfigError` that suggests what may have been meant, if one of `names` is no parameter."""
        for name in names:
            if name not in self.parameters:
                raise ConfigError(f"{unknown('parameter', name, list(self.parameters))} (in {self.path.name})")

    def record_folder(self, given: dict[str, Any]) -> Path:
        """Where the record lies that its experiment keeps for these parameters, once it was run."""
        from advtransfer.records import place

        return place(self.experiment.rpartition(".")[2], self._resolved(given)["record"])

    def _resolved(self, given: dict[str, Any]) -> dict[str, Any]:
        """The parameters as the experiment's Config reads them, and the inputs and the record's key of that Config.

        Importing an experiment takes seconds, and its answer depends on nothing but what is hashed here: it is
        remembered in the cache, so that finding everything fresh takes none.
        """
        files = {
            str(p): [p.stat().st_size, p.stat().st_mtime_ns] for p in storage.data_root().rglob("*") if p.is_file()
        }
        asked = {name: repr(value) for name, value in given.items()}
        question = digest([self.experiment, asked, source_hash(*self.modules), files])
        memo = storage.cache_root() / "resolved" / f"{question}.json"
        if memo.exists():
            return json.loads(memo.read_text(encoding="utf-8"))
        config = self.config_type.from_profile(**given)
        values = config.model_dump(mode="json")
        from advtransfer.records import address  # here, like the experiment: it takes a moment

        origin, key = address(self.experiment_module, config)
        parameters = {name: values[name] for name in given}
        answer = {"parameters": parameters, "inputs": origin["inputs"], "record": key}
        with storage.replacing(memo) as draft:
            draft.write_text(json.dumps(answer), encoding="utf-8")
        return answer


def read(path: Path) -> Notebook:
    """Read the notebook at `path` (``.md``)."""
    if not path.is_file():
        if not path.parent.is_dir():
            raise NotebookError(f"no notebook {path.stem!r}: no folder {path.parent} is here; expected the folder "
                                "of the book, or the path of a notebook")  # fmt: skip
        names = sorted(other.stem for other in path.parent.glob("*.md"))
        raise NotebookError(f"{unknown('notebook', path.stem, names)} (in {path.parent})")
    return Notebook(path, path.read_text(encoding="utf-8"))


def _imports(code: str) -> Iterator[str]:
    """The modules of this package that a cell imports; lines for IPython alone are passed over."""
    python = "\n".join("" if line.startswith(("%", "!")) else line for line in code.splitlines())
    for statement in ast.walk(ast.parse(python)):
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            whole = [f"{statement.module}.{alias.name}" for alias in statement.names]
            names = [name if _is_module(name) else statement.module for name in whole]
        else:
            continue
        yield from filter(_is_module, names)


def _is_module(name: str) -> bool:
    root, *inner = name.split(".")
    path = PACKAGE.joinpath(*inner)
    return root == PACKAGE.name and (path.is_dir() or path.with_suffix(".py").is_file())
