"""The tables and figures of the pages: they say what their records say, with and without data and published runs."""

import importlib
import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from advtransfer.experiments import ablations, conclusions, similarity, text, vision
from advtransfer.pages import cifar_to_stl as page
from advtransfer.pages import comparison, example_texts, runs, tables, verdicts
from advtransfer.pages.verdicts import Finding
from advtransfer.records.published import RESULTS, Published, published
from advtransfer.records.record import RecordError

ROOT = Path(__file__).parents[1]
EXPERIMENTS = {"cifar_to_stl": vision, "similarity": similarity, "ablations": ablations, "nlp": text}
FUNCTIONS = {
    "cifar_to_stl": [
        "answer", "about_this_run", "about_published", "departures", "source_accuracies", "against_known", "table1",
        "table1_as_defined", "by_image", "by_sample", "forecast", "over_five_models",
    ],
    "similarity": ["answer", "about", "departures", "table3", "over_models", "forecast", "by_image", "by_sample"],
    "ablations": ["answer", "about_this_run", "about_published", "curves", "settings", "switches"],
    "nlp": ["answer", "points", "about", "departures", "over_sources", "by_confidence", "control"],
}  # fmt: skip


def name_of(experiment) -> str:
    return experiment.__name__.rpartition(".")[2]


@pytest.fixture(params=EXPERIMENTS)
def bare(request, monkeypatch, tmp_path):
    """A page and its runs where nothing is published and no data are here."""
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path))
    experiment = EXPERIMENTS[request.param]
    config = experiment.Config.from_profile("quick")
    return request.param, runs.Runs(config, None, Published(tmp_path), {})


@pytest.mark.parametrize("notebook", EXPERIMENTS)
def test_a_stored_summary_follows_from_the_published_runs(notebook):
    name = name_of(EXPERIMENTS[notebook])
    records = published(name)
    stored = runs.read_summary(name, records)
    computed = importlib.import_module(f"advtransfer.pages.{notebook}").summary(records)
    assert set(stored) == set(computed)
    for table in computed:
        pd.testing.assert_frame_equal(stored[table], computed[table], check_exact=True, check_dtype=False)


def test_a_summary_of_other_records_is_refused(tmp_path):
    (tmp_path / "vision").mkdir()
    for entry in (RESULTS / "vision").iterdir():
        (tmp_path / "vision" / entry.name).symlink_to(entry)
    assert runs.read_summary("vision", published("vision", tmp_path), tmp_path)
    (tmp_path / "vision" / "trained-seed1").unlink()
    with pytest.raises(RecordError, match="is of other records than those beside it; publish one of them again"):
        runs.read_summary("vision", published("vision", tmp_path), tmp_path)
    summary = tmp_path / "vision" / "summary.json"
    stored = summary.read_text("utf-8")
    summary.unlink()
    (tmp_path / "vision" / "trained-seed1").symlink_to(RESULTS / "vision" / "trained-seed1")
    summary.write_text(stored.replace('"alpha1": 0.', '"alpha1": 1.', 1), "utf-8")  # touched up by hand
    with pytest.raises(RecordError, match="is no longer what was computed"):
        runs.read_summary("vision", published("vision", tmp_path), tmp_path)
    summary.unlink()
    with pytest.raises(RecordError, match="is missing; publish one of the records"):
        runs.read_summary("vision", published("vision", tmp_path), tmp_path)


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


@pytest.mark.parametrize("bare", ["nlp"], indirect=True)
def test_without_texts_the_example_has_trained_classifiers_of_made_up_ones(bare):
    two = example_texts.pair(bare[1], n=4)
    assert two.names == ("IMDB (made-up texts)", "MR (made-up texts)")
    assert len(two.tokens.ids) == 4
    assert not two.target.training
    assert set(two.tokenizer.convert_ids_to_tokens(two.tokens.ids[0].tolist())) > {"[CLS]", "[SEP]"}
    assert not torch.equal(two.target.word_embeddings, two.source.word_embeddings)


def test_a_verdict_in_a_table_is_the_verdict_that_is_quoted():
    records = published("vision")
    known = runs.Runs(
        vision.Config.from_profile("quick"), None, records, runs.read_summary("vision", records)
    )  # fmt: skip
    quoted = page.findings(known)
    table = page.over_five_models(known).set_index("correlation")
    targets = ["Tiny ImageNet", "shifted CIFAR-10"]
    for key, metric in (("cifar_pearson_table", r"\alpha_1"), ("cifar_alpha2", r"\alpha_2")):
        row = table.loc[f"accuracy with ${metric}$, Pearson"]
        cells = [(row[f"stored, {target}"], row[f"verdict, stored, {target}"], target) for target in targets]
        assert str(quoted[key]) == "; ".join(f"{score}, {word} ({target})" for score, word, target in cells)
        assert [verdict.word for verdict in quoted[key].verdicts] == [word for _, word, _ in cells]
        assert quoted[key].size.endswith("Tiny ImageNet and shifted CIFAR-10, not STL-10; 3 seeds")
        for verdict in quoted[key].verdicts:
            score = conclusions.Correlation(verdict.estimate, verdict.low, verdict.high, verdict.p, verdict.n)
            assert verdicts.judge_correlation(score, claimed=1) == verdict.word
    by_sample = page.by_sample(known)
    assert len(by_sample) == len(quoted["cifar_pearson_samples"].verdicts)
    for target, part in by_sample.groupby(by_sample["run"].str.partition(", seed")[0]):
        reproduced = (part["a negative r is"] == "reproduced").sum()
        assert f"{target}: reproduced {reproduced}" in str(quoted["cifar_pearson_samples"])


def test_scores_have_a_cell_for_each_method():
    correlations = conclusions.over_samples(["a"], [[0.1, 0.2, 0.3, 0.4]], [[0.4, 0.3, 0.2, 0.1]])
    cells = comparison.scores(correlations)
    assert list(cells) == ["Pearson", "p, Pearson", "Spearman", "p, Spearman", "Kendall", "p, Kendall"]
    assert cells["Pearson"].startswith("−1.00")


def test_every_function_of_a_page_is_called_by_its_notebook():
    """What no notebook calls is dead."""
    for name in (*EXPERIMENTS, "theory_checks", "synthetic", "forecast"):
        module = importlib.import_module(f"advtransfer.pages.{name}")
        pages = (Path(__file__).parents[1] / "notebooks").glob(f"{name}*.md")  # a module may have several
        text = "".join(path.read_text("utf-8") for path in pages)
        own = Path(module.__file__).read_text("utf-8")
        public = [
            key for key, value in vars(module).items()
            if callable(value) and not key.startswith("_") and getattr(value, "__module__", "") == module.__name__
        ]  # fmt: skip
        assert public
        for function in public:
            used = f"page.{function}(" in text or own.count(f"{function}(") > 1
            assert used or function == "summary", f"{name}.{function}"


@pytest.mark.parametrize("name", ["similarity", "ablations"])
def test_a_page_that_lists_no_parameters_names_those_that_table_1_lacks(name):
    text = (ROOT / "notebooks" / f"{name}.md").read_text("utf-8")
    said = next(line for line in text.splitlines() if line.startswith("The parameters are those of {doc}"))
    own, known = (set(module.Config.model_fields) for module in (EXPERIMENTS[name], vision))
    assert own != known
    assert set(re.findall(r"`(\w+)`", said)) - {"plain_"} == own ^ known
