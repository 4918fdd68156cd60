"""The tables and figures of the pages: they say what their records say, with and without data and published runs."""

import importlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from matplotlib.figure import Figure

from advtransfer.experiments import ablations, conclusions, similarity, text, vision
from advtransfer.pages import cifar_to_stl as page
from advtransfer.pages import (
    comparison,
    drawings,
    example_texts,
    layout,
    nlp_spread,
    nlp_tables,
    plots,
    runs,
    tables,
    verdicts,
)
from advtransfer.pages.verdicts import Finding
from advtransfer.records.published import RESULTS, Published, published
from advtransfer.records.record import Record, RecordError
from advtransfer.statistics import cochran_q

ROOT = Path(__file__).parents[1]
EXPERIMENTS = {"cifar_to_stl": vision, "similarity": similarity, "ablations": ablations, "nlp": text}
FUNCTIONS = {
    "cifar_to_stl": [
        "answer", "about_this_run", "about_published", "departures", "source_accuracies", "against_known", "table1",
        "table1_as_defined", "by_image", "by_sample", "forecast", "over_five_models",
    ],
    "similarity": ["answer", "about", "departures", "table3", "over_models", "forecast", "by_image", "by_sample"],
    "ablations": ["answer", "about_this_run", "about_published", "choices", "curves", "settings", "switches"],
    "nlp": ["answer", "points", "about", "departures", "over_sources", "by_confidence", "control"],
}  # fmt: skip


def stored(name, records=None) -> runs.Runs:
    """The page `name` with its stored runs (or `records`), without a run of its own."""
    experiment, module = EXPERIMENTS[name], importlib.import_module(f"advtransfer.pages.{name}")
    records = published(experiment.__name__.rpartition(".")[2]) if records is None else records
    return runs.Runs(experiment.Config.from_profile("quick"), None, records, module.summary(records))


@pytest.fixture(params=EXPERIMENTS)
def bare(request, monkeypatch, tmp_path):
    """A page and its runs where nothing is published and no data are here."""
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path))
    return request.param, stored(request.param, Published(tmp_path))


def test_a_published_record_is_read_when_it_is_used(tmp_path):
    (tmp_path / "vision").mkdir()
    (tmp_path / "vision" / "good").symlink_to(RESULTS / "vision" / "trained-seed0")
    broken = tmp_path / "vision" / "broken"
    broken.mkdir()
    (broken / "record.json").write_text(json.dumps({"digest": "0"}))
    records = published("vision", tmp_path)
    assert list(records) == ["broken", "good"]
    assert records["good"].experiment == "vision"
    with pytest.raises(RecordError, match="broken record"):
        records["broken"]


def test_without_data_and_published_runs_a_page_shows_the_paper_and_says_what_is_missing(bare):
    name, none = bare
    module = importlib.import_module(f"advtransfer.pages.{name}")
    shown = {function: getattr(module, function)(none) for function in FUNCTIONS[name]}
    texts = "\n".join(content for content in shown.values() if isinstance(content, str))
    assert "python -m advtransfer data fetch" in texts
    for function, content in shown.items():
        assert content is None or isinstance(content, str | pd.DataFrame | Figure), function
        assert not isinstance(content, pd.DataFrame) or "nan" not in str(tables.show(content) and content.to_csv())
    for key, value in module.findings(none).items():
        runs_of = {verdict.run for verdict in value.verdicts} if isinstance(value, Finding) else set()
        assert runs_of <= {"paper"}, f"{key} has a verdict without a run"


def test_two_stored_series_with_one_target_have_a_column_each(tmp_path):
    record = Record.load(RESULTS / "vision" / "trained-seed0")
    for series, width in (("trained", 32), ("released", 64)):
        config = record.config | {"width": width, "target_width": width}
        replace(record, config=config).save(tmp_path / "vision" / f"{series}-seed0")
    known = stored("cifar_to_stl", published("vision", tmp_path))
    heads = ["stored, Tiny ImageNet (trained)", "stored, Tiny ImageNet (released)"]
    assert set(heads) < set(page.table1(known).columns)
    said = page.about_published(known)
    assert "the two ResNets half the released width" in said
    assert "the two ResNets the released width" in said
    assert {"stored (trained)", "stored (released)"} < set(page.departures(known).columns)


@pytest.mark.parametrize("bare", ["nlp"], indirect=True)
def test_without_texts_the_example_has_trained_classifiers_of_made_up_ones(bare):
    two = example_texts.pair(bare[1], n=4)
    assert two.names == ("IMDB (made-up texts)", "MR (made-up texts)")
    assert len(two.tokens.ids) == 4
    assert not two.target.training
    assert set(two.tokenizer.convert_ids_to_tokens(two.tokens.ids[0].tolist())) > {"[CLS]", "[SEP]"}
    assert not torch.equal(two.target.word_embeddings, two.source.word_embeddings)


def test_a_verdict_in_a_table_is_the_verdict_that_is_quoted():
    known = stored("cifar_to_stl")
    quoted = page.findings(known)
    table = page.over_five_models(known).set_index(["correlation", "run"])
    targets = ["Tiny ImageNet", "shifted CIFAR-10"]
    for key, metric in (("cifar_pearson_table", r"\alpha_1"), ("cifar_alpha2", r"\alpha_2")):
        said = []
        for target in targets:
            row = table.loc[(f"accuracy with ${metric}$, Pearson", f"stored, {target}")]
            score = f"{row['r']}, p = {row['p']}, n = {row['n']}"
            said.append(f"{score}, {row['verdict']} ({target})")
        assert str(quoted[key]) == "; ".join(said)
        assert quoted[key].size.endswith("Tiny ImageNet and shifted CIFAR-10 (paper: STL-10); 3 seeds")
        for verdict in quoted[key].verdicts:
            score = conclusions.Correlation(verdict.estimate, verdict.low, verdict.high, verdict.p, verdict.n)
            assert verdicts.judge_correlation(score, claimed=1) == verdict.word
    by_sample = page.by_sample(known)
    assert len(by_sample) == len(quoted["cifar_pearson_samples"].verdicts)
    for target, part in by_sample.groupby(by_sample["run"].str.partition(", seed")[0]):
        reproduced = (part["a negative r is"] == "reproduced").sum()
        assert f"{target}: {reproduced} reproduced" in str(quoted["cifar_pearson_samples"])


def test_a_correlation_over_samples_shows_both_coefficients_and_judges_one():
    correlations = conclusions.over_samples(["a"], [[0.1, 0.2, 0.3, 0.5]], [[0.4, 0.3, 0.2, 0.1]])
    (row,) = comparison.by_sample([({"source": "a"}, correlations)], -1).to_dict("records")
    assert list(row) == ["source", "Pearson's r", "p", "Spearman's ρ", "n", "a negative r is"]
    assert row["Pearson's r"].startswith("−0.98")
    assert row["Spearman's ρ"].startswith("−1.00")
    assert row["n"] == 4


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("cifar_to_stl", "by_sample"),
        ("similarity", "by_sample"),
        ("nlp", "by_confidence"),
        ("cifar_to_stl", "over_five_models"),
        ("similarity", "over_models"),
    ],
)
def test_a_folded_table_has_few_columns_and_all_numbers(name, function):
    table = getattr(importlib.import_module(f"advtransfer.pages.{name}"), function)(stored(name))
    assert len(table.columns) <= 7
    if not function.startswith("over"):
        assert {"Pearson's r", "p", "Spearman's ρ", "n"} < set(table.columns)


def test_no_interval_of_a_table_of_texts_holds_impossible_values():
    known = stored("nlp")
    attacks = nlp_tables.other_attacks(known)
    assert list(attacks["source"]) == nlp_tables.SOURCES * attacks["attack"].nunique()
    for table in (attacks, nlp_tables.without_noise(known)):
        cells = pd.Series(table.to_numpy().ravel())
        found = cells.str.extract(r"\[(?P<low>[^,]+),\s(?P<high>[^\]]+)\]").dropna()
        assert len(found) > 5
        assert not found["low"].str.startswith("−").any()  # neither α1 nor α2 nor α1∗α2 can be negative
    assert attacks["$\\alpha_2$, stored"].str.extract(r",\s([^\]]+)\]$").dropna().astype(float).max().item() <= 1


def test_the_spread_of_the_sources_is_that_of_their_answers():
    records = published("text")
    rows = stored("nlp").summary["spread"]
    assert len(rows) == len(records)
    for (_, row), record in zip(rows.iterrows(), records.values(), strict=True):
        in_print = [name in ("mr", "yelp", "ag", "fake") for name in record.config["sources"]]
        right = record.arrays["transfer_right"][in_print]
        assert (row["least"], row["greatest"]) == pytest.approx((right.mean(1).min(), right.mean(1).max()))
        assert row["test_texts"] == right.shape[1]
        assert row["p"] == pytest.approx(cochran_q(right))


@pytest.mark.parametrize(
    ("p", "words"),
    [
        ([0.5], "50 test texts cannot tell them apart, so there is hardly anything to forecast"),
        (
            [0.01],
            "they differ by more than the choice of test texts explains in the one seed. Over these four models "
            "Pearson's r of accuracy with α1 is, seed by seed, 0.10 (T→S) and 0.20 (S→T) as the ratio of mean "
            "deviations, and 0.30 (T→S) and 0.40 (S→T) as defined; four models cannot say more",
        ),
        (
            [0.01, 0.5],
            "they differ by more than the choice of test texts explains in 1 of 2 seeds. Over these four models "
            "Pearson's r of accuracy with α1 is, seed by seed, 0.10, 0.10 (T→S) and 0.20, 0.20 (S→T) as the ratio of "
            "mean deviations, and 0.30, 0.30 (T→S) and 0.40, 0.40 (S→T) as defined; four models cannot say more",
        ),
    ],
)
def test_where_sources_cannot_be_told_apart_the_page_says_so(p, words):
    run = {"series": "a", "train_texts": 2000, "test_texts": 50, "least": 0.7, "greatest": 0.75}
    run |= {"T→S": 0.1, "S→T": 0.2, "T→S, as defined": 0.3, "S→T, as defined": 0.4}
    rows = pd.DataFrame([{**run, "seed": seed, "p": each} for seed, each in enumerate(p)])
    known = runs.Runs(text.Config.from_profile("quick"), None, {}, {"spread": rows})
    assert nlp_spread.said(known) == (
        "With 2,000 training texts of IMDB our models of the paper's four corpora have an accuracy of 70.0 to 75.0% "
        f"after transfer: {words}."
    )
    assert list(nlp_spread.table(known)["run"]) == [f"a, seed {seed}" for seed in range(len(p))]


def test_every_interval_of_a_table_from_five_points_or_fewer_is_marked():
    for name, function, column in (
        ("cifar_to_stl", "over_five_models", "r"), ("similarity", "over_models", "r"), ("ablations", "claims", None),
    ):  # fmt: skip
        page = importlib.import_module(f"advtransfer.pages.{name}")
        table = getattr(page, function)(stored(name), *([] if column else ["table5"]))
        cells = table[column or "accuracy with α1, Pearson"]
        assert set(table["n"]) <= {4, 5}
        assert cells.str.endswith(f"]{tables.MARK}").all()
        assert tables.NOTE in tables.show(table).data


def test_every_function_of_a_page_is_called_by_its_notebook():
    """What no notebook calls is dead."""
    for name in (*EXPERIMENTS, "theory_checks", "synthetic", "forecast", "study", "choosing"):
        module = importlib.import_module(f"advtransfer.pages.{name}")
        pages = (Path(__file__).parents[1] / "notebooks").glob(f"{name}*.md")  # a module may have several
        if name == "choosing":
            root = Path(__file__).parents[1]
            pages = [root / "notebooks" / "choose_a_source.md", root / "lib" / "advtransfer" / "commands" / "rank.py"]
        text = "".join(path.read_text("utf-8") for path in pages)
        own = Path(module.__file__).read_text("utf-8")
        public = [
            key for key, value in vars(module).items()
            if callable(value) and not key.startswith("_") and getattr(value, "__module__", "") == module.__name__
        ]  # fmt: skip
        assert public
        for function in public:
            calls = re.findall(rf"(?<![\w.]){function}\(", own)  # one of them is its definition
            used = f"page.{function}(" in text or len(calls) > 1
            assert used or function == "summary", f"{name}.{function}"


def test_what_a_switch_of_the_protocol_changes_is_told_seed_by_seed():
    known = stored("ablations")
    page = importlib.import_module("advtransfer.pages.ablations")
    change = []
    for record in known.published.values():
        r = record.tables["claims"].query("study == 'protocol' and metric == 'alpha1'").set_index("setting")["r"]
        change.append(r["samples"] - r["as the run"])
    low, high = (tables.number(value) for value in (min(change), max(change)))
    n = len(change)
    told = f"{low} to {high} (least and greatest of {n} seeds)" if n > 1 else f"{low} (one seed)"
    assert page.switched(known).endswith(f"all images {told}.")
    empty = runs.Runs(ablations.Config.from_profile("quick"), None, {}, {})
    assert page.switched(empty) == "The points on which text and code differ were not switched."


def test_the_leading_figure_of_the_ablations_shows_what_each_attack_makes_of_the_correlation():
    known = stored("ablations")
    page = importlib.import_module("advtransfer.pages.ablations")
    table, baselines = page._choices(known)
    claims = pd.concat(record.tables["claims"].assign(run=name) for name, record in known.published.items())
    claims = claims[claims["metric"] == "alpha1"]
    shown = table[table["panel"] != page.PRINTED]
    assert len(shown) == len(claims[~claims["study"].isin(["table5", "protocol"])]) / len(known.published)
    seeds = claims[(claims["study"] == "eps") & (claims["setting"] == "8/255")]
    low, high = ("r", "r") if len(seeds) > 1 else ("low", "high")  # one seed has its bootstrap interval
    row = shown[shown["setting"] == "8/255"].iloc[0]
    assert (row["r"], row["low"], row["high"]) == (seeds["r"].mean(), seeds[low].min(), seeds[high].max())
    assert set(baselines) == set(shown["panel"])
    assert set(baselines.values()) == {claims[claims["setting"] == "as the run"]["r"].mean()}
    assert list(table[table["panel"] == page.PRINTED]["whose"].value_counts()) == [4, 4]  # ours and the paper's
    tried = claims[~claims["study"].isin(["table5", "protocol"])]
    by_run = tried.pivot_table(
        index=["study", "setting"], columns="run", values="r"
    ).drop_duplicates()  # PGD has four names
    always = int((by_run.max(axis=1) < 0).sum()), int((by_run.min(axis=1) > 0).sum())
    each = f"in every one of {len(known.published)} seeds" if len(known.published) > 1 else "in the one seed"
    said = (
        "{} different choices of the attack were tried (below). The correlation of accuracy after transfer with α1 is "
    )
    said += "positive {} under {} of them, and negative {} under {} ("
    assert said.format(len(by_run), each, always[1], each, always[0]) in page.answer(known)
    (radii, *_), _ = page.curves(known).axes, plt.close("all")
    assert [label.get_text() for label in radii.get_xticklabels()] == ["1", "2", "4", "8", "16", "32"]


@layout.two_widths
def two_panels() -> Figure:
    """Two panels side by side, which share the label of their vertical axis, and a legend."""
    figure, (panels,) = layout.panels(1, 2, size=(8, 3), sharey=True)
    for panel in panels:
        panel.plot([0, 1], [0, 1], label="a line with a very long name")
        panel.set_xlabel("one thing " * 12)
    panels[0].set_ylabel("accuracy")
    layout.legend(figure, *panels[0].get_legend_handles_labels(), loc="outside upper center", columns=4)
    return figure


def size_of(svg: str) -> tuple[float, float]:
    """Width and height of an SVG, in inches."""
    width, height = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg).groups()
    return float(width) / 72, float(height) / 72


def test_a_figure_is_drawn_again_for_a_phone_with_its_panels_one_below_the_other():
    plots.use_style()
    figure = two_panels()
    wide = [panel.get_position().bounds for panel in figure.axes]
    narrow = layout.narrow(figure)
    width, height = size_of(narrow)
    assert width <= layout.WIDTH + 0.15
    assert height > 6
    assert narrow.count("<!-- accuracy -->") == 2  # the letters of a label, as matplotlib notes them in an SVG
    assert "<!-- 0.0 -->" in narrow
    assert (figure.get_size_inches() == (8, 3)).all()
    assert [panel.get_position().bounds for panel in figure.axes] == wide
    assert plt.get_fignums() == [figure.number]  # a notebook shows every figure that is open
    assert layout.narrow(plt.figure()) is None
    assert "<!-- accuracy -->" in layout.narrow(two_panels())
    plt.close("all")


def test_the_figures_of_the_pages_fit_a_phone():
    plots.use_style()
    known = stored("ablations")
    page = importlib.import_module("advtransfer.pages.ablations")
    figures = {name: getattr(page, name)(known) for name in ("choices", "settings", "curves", "switches")}
    figures |= {name: draw() for name, draw in drawings.DRAWINGS.items()}
    widths = {name: size_of(layout.narrow(figure))[0] for name, figure in figures.items()}
    assert not {name: width for name, width in widths.items() if width > layout.WIDTH + 0.15}
    plt.close("all")


def test_a_small_screen_gets_the_narrow_drawing_and_everything_else_the_wide_one(tmp_path):
    """A notebook with one figure in two widths, and one glued for another page."""
    pytest.importorskip("myst_nb", reason="no MyST-NB here to build a page")
    wide, narrow = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="1pt"/>' for width in (8, 4))
    data = {"image/svg+xml": wide, layout.MIME: narrow, "text/plain": "<Figure>"}
    about = {"mystnb": {"figure": {"caption": "Its caption."}, "image": {"alt": "what is drawn"}}}
    cell = nbformat.v4.new_code_cell("figure", metadata=about, outputs=[nbformat.v4.new_output("display_data", data)])
    glued = nbformat.v4.new_output("display_data", data, metadata={"scrapbook": {"name": "drawn", "mime_prefix": ""}})
    node = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# A page\n\n```{toctree}\nother\n```"), cell,
        nbformat.v4.new_code_cell("glue", outputs=[glued]),
    ], metadata={"language_info": {"name": "python"}})  # fmt: skip
    source, out = tmp_path / "source", tmp_path / "built" / "html"
    source.mkdir()
    nbformat.write(node, source / "page.ipynb")
    quoted = "```{notebook-figure} page.ipynb::drawn\n:alt: the same\n\nText.\n```"
    (source / "other.md").write_text(f"# Other\n\n{quoted}\n")
    (source / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[1] / 'book' / '_ext')!r})\nroot_doc = 'page'\n"
        "extensions = ['myst_nb', 'narrow_figures', 'notebook_figure']\nnb_execution_mode = 'off'\n"
        "html_theme = 'basic'\n"
    )
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(source), str(out)]
    assert subprocess.run(build).returncode == 0  # a process of its own: MyST-NB changes Sphinx for all later builds
    for name, alt in (("page", "what is drawn"), ("other", "the same")):
        page = BeautifulSoup((out / f"{name}.html").read_text("utf-8"), "html.parser")
        (picture,) = page.select("figure picture")
        other, image = picture.find_all(["source", "img"])
        assert (other["media"], image["alt"]) == ("screen and (max-width: 600px)", alt)
        assert [(out / address).read_text("utf-8") for address in (other["srcset"], image["src"])] == [narrow, wide]


@pytest.mark.parametrize("name", ["similarity", "ablations"])
def test_a_page_that_lists_no_parameters_names_those_that_table_1_lacks(name):
    text = (ROOT / "notebooks" / f"{name}.md").read_text("utf-8")
    said = next(line for line in text.splitlines() if line.startswith("The parameters are those of {doc}"))
    own, known = (set(module.Config.model_fields) for module in (EXPERIMENTS[name], vision))
    assert own != known
    assert set(re.findall(r"`(\w+)`", said)) - {"plain_"} == own ^ known


def test_the_clips_of_a_narrow_drawing_have_names_that_no_digit_of_their_place_changes():
    @layout.two_widths
    def drawn():
        figure, axes = layout.panels(1, 2, size=(8, 3))
        for axis in axes.flat:
            axis.plot([0, 1], [0, 1])
        return figure

    svg = layout.narrow(drawn())
    used, named = set(re.findall(r"url\(#([^)]+)\)", svg)), set(re.findall(r'<clipPath id="([^"]+)"', svg))
    assert used == named == {"p0", "p1"}
