"""``python -m advtransfer rank``: rank the candidates of a pool file for a target."""

import argparse
import sys
import textwrap
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from shutil import get_terminal_size

import numpy as np
import pandas as pd

from advtransfer import ranking
from advtransfer.commands import parameters
from advtransfer.commands.output import add_json, print_json, print_table
from advtransfer.experiments import choosing
from advtransfer.notebooks import execute
from advtransfer.notebooks.read import read
from advtransfer.pages import choosing as page
from advtransfer.prepare import NotFoldedWarning
from advtransfer.ranking import pools, texts
from advtransfer.ranking.scoring import SHARES, WITH_TARGET_MODEL
from advtransfer.records import shipped, storage
from advtransfer.records.record import Record

COLUMNS = 11  # of a table that fits a window
FILES = ("ranking", "scores", "ranks")  # the tables of `write`
ZERO = 1e-12  # scores below it are rounding errors
PAGE, NOT_HERE = "choose_a_source", "only-in-book"
"""The notebook of the page, and the tag of its cells that are left out."""


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the options of ``rank``."""
    fields = choosing.Config.model_fields
    parser.usage = "advtransfer rank POOL --data DATA [--out DIR] [--json] [--SETTING VALUE ...]"
    parser.add_argument("pool", metavar="POOL", help=str(fields["pool"].description))
    parser.add_argument(
        "--data",
        help=f"required; {fields['data'].description}. The book's page uses {fields['data'].default}",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also write ranking.csv, scores.csv, ranks.csv and a page there"
    )
    parameters.add_options(parser)
    add_json(parser)
    parameters.add_settings(parser, choosing.Config, skip=("profile", "pool", "data"))
    parser.set_defaults(func=rank)


def rank(arguments: argparse.Namespace) -> int:
    """Measure what has no record yet, print the ranking, and write it where it was asked for; return 0."""
    given = parameters.given(arguments)
    for name, value in (("pool", arguments.pool), ("data", arguments.data)):
        if name in dict(arguments.pairs) and value is not None:
            raise ValueError(f"-p {name} sets {name} a second time; expected it once")
        if value is not None:
            given[name] = value
    if "data" not in given:  # no default: a ranking for data that nobody asked for would look like an answer
        raise ValueError(f"no data given; expected --data DATA ({choosing.Config.model_fields['data'].description})")
    for name in ("pool", "data"):  # the page is executed in another folder
        path = Path(str(given.get(name, ""))).expanduser()
        if given.get(name) not in ("", None, choosing.BOOK) and path.exists():  # the repository has a folder "book"
            given[name] = str(path.absolute())
    config = choosing.Config.from_profile(**given)
    if "size" in given and Path(config.data).expanduser().exists() and not _is_cut(config):
        raise ValueError(
            f"size is {config.size}; expected it only with a folder of pictures, and not with {config.data}"
        )
    if arguments.out:
        check_out(arguments.out, given)
    print(wrapped(announced(config)), file=sys.stderr if arguments.json else sys.stdout, flush=True)
    for line in pools.doubts(config.pool) if Path(config.pool).is_file() else ():
        print(line, file=sys.stderr)
    with redirect_stdout(sys.stderr), warnings.catch_warnings():  # builders and models may print
        warnings.simplefilter("ignore", NotFoldedWarning)  # it is about speed alone
        record = choosing.run(config)
    tables = record.tables
    if arguments.json:
        files = write(record, given, arguments.out) if arguments.out else []
        print_json({**{name: tables[name] for name in choosing.TABLES}, "files": files})
        return 0
    print(wrapped(page.about(record)))
    for title, block in blocks(wide(record)).items():
        print_table(block, title)
    print("* cannot be told apart from the best candidate by this score; larger is better")
    if "distance" in config.only:
        print("distance: smaller is better; it has no interval, and so no star")
    print(wrapped(page.answer(record)))
    noted = tables["scores"][tables["scores"]["note"] != ""]
    for (who, why), part in noted.groupby(["candidate", "note"], sort=False):
        print(f"{who}: {', '.join(part['score'])}: {why}", file=sys.stderr)
    if arguments.out:  # the ranking is printed before, for the page takes a while
        sys.stdout.flush()
        files = write(record, given, arguments.out)
        print(f"written: {', '.join(file.name for file in files)} in {arguments.out}")
    return 0


def check_out(out: Path, given: dict[str, object]) -> None:
    """Raise unless the ranking can be written to a folder, and takes the place of no other one."""
    storage.check_writable(out)
    page = out / shipped.notebook(PAGE).with_suffix(".ipynb").name
    strange = [name for name in FILES if (out / f"{name}.csv").exists()]
    if strange and not page.exists():  # `write` makes it first
        raise ValueError(f"{out} holds {strange[0]}.csv and no ranking ({page.name}); expected another folder in --out")
    if execute.is_another_run(page, read(shipped.notebook(PAGE), NOT_HERE).resolve(given)):
        raise ValueError(f"{out} holds a ranking with other parameters; expected another folder in --out")


def wrapped(text: str) -> str:
    """A paragraph in lines that fit the window."""
    width = get_terminal_size((100, 24)).columns
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def announced(config: choosing.Config) -> str:
    """Which data, which target model and which settings a ranking has, in one line."""
    idle = {"full_epochs"} if config.truth != "full" else set()
    idle |= set() if _is_cut(config) else {"size"}
    compared = {*config.only} & {*WITH_TARGET_MODEL}
    idle |= {"target_epochs"} if config.target or not compared else set()
    idle |= {"samples", "gradients", "outputs", "eps", "steps"} if not compared else set()
    model = f"the candidate {config.target}" if config.target else "trained on these data"
    model = model if compared else "not needed"
    settings = config.model_dump(exclude={"profile", "pool", "data", "target", *idle})
    settings["only"] = "all" if config.only == ranking.NAMES else ",".join(config.only)
    told = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"data: {config.data}; target model: {model}; settings: {told}"


def _is_cut(config: choosing.Config) -> bool:
    """Whether the data are pictures in folders, which are cut to a size."""
    place = Path(config.data).expanduser()
    return place.is_dir() and not texts.here(place)


def wide(record: Record) -> pd.DataFrame:
    """A row per candidate: accuracy after transfer and every score, with a star where the best is not certain."""
    scores, places = record.tables["scores"], record.tables["ranks"].set_index(["candidate", "score"])["group"]
    rows = []
    candidates = record.tables["candidates"]
    by = "accuracy" if "accuracy" in candidates else "candidate"
    for _, candidate in candidates.sort_values(by, ascending=by == "candidate").iterrows():
        name = candidate["candidate"]
        row: dict[str, object] = {"candidate": name}
        if "accuracy" in candidate:
            low, high = candidate["accuracy_low"], candidate["accuracy_high"]
            row["accuracy, %"] = f"{100 * candidate['accuracy']:.1f} [{100 * low:.0f}, {100 * high:.0f}]"
        if "own_accuracy" in candidate:
            row["own, %"] = "–" if np.isnan(candidate["own_accuracy"]) else f"{100 * candidate['own_accuracy']:.1f}"
        for _, found in scores[scores["candidate"] == name].iterrows():
            star = "*" if places.get((name, found["score"])) == 1 else ""
            head = f"{found['score']}, %" if found["score"] in SHARES else found["score"]
            row[head] = f"{written(found)}{star}" if np.isfinite(found["value"]) else "–"
        rows.append(row)
    return pd.DataFrame(rows)


def written(score: pd.Series) -> str:
    """The value of a score: three digits, four where most values are close to 1, and all those before the point."""
    if score["score"] in SHARES:
        return f"{100 * score['value']:.1f}"
    value, digits = float(score["value"]), 4 if score["score"] == "distance" else 3
    value = 0.0 if abs(value) < ZERO else value
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def blocks(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The table, or two by their titles if it does not fit a window: without the target model, and with it."""
    if len(table.columns) <= COLUMNS:
        return {"": table}
    second = [name for name in table.columns if name in WITH_TARGET_MODEL]
    return {
        "accuracy after transfer, and scores that read features and labels": table.drop(columns=second),
        "scores that compare with the target model": table[["candidate", *second]],
    }


def write(record: Record, given: dict[str, object], out: Path) -> list[Path]:
    """Write the page as a notebook and as HTML, and then the tables as CSV; return the files."""
    outcome = execute.run(shipped.notebook(PAGE), given, out=out, whole=True, without=NOT_HERE)
    files = []
    values = record.tables["scores"].set_index(["candidate", "score"])["value"].unstack()  # noqa: PD010
    ranked = record.tables["candidates"].merge(values.reset_index(), on="candidate")
    for name in FILES:
        table = ranked if name == "ranking" else record.tables[name]
        with storage.replacing(out / f"{name}.csv") as draft:
            table.to_csv(draft, index=False)
        files.append(out / f"{name}.csv")
    return [*files, *(file for file in outcome.files if file.suffix in (".ipynb", ".html"))]
