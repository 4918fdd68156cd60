"""A pool file: which candidates there are, and the models that they make."""

import tomllib
from pathlib import Path

from pydantic import ValidationError

from advtransfer.names import one_line
from advtransfer.ranking.builders import AnyEncoder, build
from advtransfer.ranking.candidates import Candidate, PoolError
from advtransfer.ranking.encoder import FAILURES
from advtransfer.ranking.transformers import PREPROCESSOR, reads_texts
from advtransfer.records.configs import explain


def read(path: Path | str) -> dict[str, AnyEncoder]:
    """The candidates of a pool file, ready to be ranked.

    Only the builders that the file names are run: weights are read from ``.safetensors`` files, or by
    ``torch.load(weights_only=True)``.

    Parameters
    ----------
    path
        A TOML file with a table per candidate, such as ``[mine]`` with ``build = "nets.py:make"``; see `Candidate` for
        the keys. Paths are relative to the file's folder.

    Raises
    ------
    PoolError
        The file is missing or wrong, or candidates cannot be built; the message has a line for each of them.
    """
    path = Path(path).expanduser()
    candidates = parse(path)
    built, problems = {}, []
    for name, candidate in candidates.items():
        try:
            built[name] = build(candidate, path.parent)
        except (*FAILURES, ImportError, OSError) as error:
            reason = one_line(error)
            problems.append(f"{name}: {reason if len(reason) < 400 else reason[:400] + ' …'}")
    if problems:
        raise PoolError("\n".join(problems))
    return built


def doubts(path: Path | str) -> list[str]:
    """A line for each candidate whose weights or normalisation the pool file does not tell.

    That may be meant: a builder can load weights, and a model normalise.
    """
    path, found = Path(path).expanduser(), []
    for name, candidate in parse(path).items():
        if candidate.build and candidate.weights is None:
            found.append(f"{name}: no weights in the pool file; it is ranked as its builder makes it")
        saved = path.parent / candidate.transformers.expanduser() if candidate.transformers else None
        known = saved and (saved / "config.json").is_file() and not reads_texts(saved)
        bare = saved and known and not (saved / PREPROCESSOR).is_file()
        if (candidate.build or bare) and candidate.mean is None:
            where = f"in the pool file or in {PREPROCESSOR}" if bare else "in the pool file"
            found.append(f"{name}: no mean and std {where}; it gets pixels from 0 to 1 as they are")
    return found


def own_accuracies(path: Path | str) -> dict[str, float]:
    """The accuracy of each candidate on its own test samples, where the pool file gives it."""
    told = {name: candidate.own_accuracy for name, candidate in parse(Path(path).expanduser()).items()}
    return {name: value for name, value in told.items() if value is not None}


def parse(path: Path) -> dict[str, Candidate]:
    """The candidates of a pool file, checked, before any of them is built."""
    try:
        tables = tomllib.loads(path.read_text("utf-8-sig"))  # some editors write a mark first
    except FileNotFoundError:
        raise PoolError(f"{path} does not exist; expected a pool file in TOML, with a table per candidate") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise PoolError(f"{path} is not a pool file: {error}") from None
    if not tables:
        raise PoolError(f"{path} is empty; expected a table per candidate")
    found, problems = {}, []
    for name, table in tables.items():
        if not isinstance(table, dict):
            problems.append(f"{name} = {table!r} is outside any table; expected [{name}] and its keys below")
            continue
        try:
            found[name] = Candidate(**table)
        except ValidationError as error:
            problems += [f"{name}: {line}" for line in explain(error, list(Candidate.model_fields)).splitlines()]
    if problems:
        raise PoolError("\n".join(problems))
    return found
