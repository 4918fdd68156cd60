"""Runs after they are done: found, told, compared, verified; and what they cost."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

import trials
from advtransfer.commands.main import main
from advtransfer.notebooks import execute, executed, export
from advtransfer.notebooks.read import read
from advtransfer.records import compare, costs, find, runs
from advtransfer.records.configs import described, meaning
from advtransfer.records.record import Record


@pytest.fixture
def trial(toys, monkeypatch):
    path = trials.write(toys)
    monkeypatch.chdir(toys.parent)
    yield read(path).experiment_module
    sys.modules.pop("toys.trial", None)


def test_a_run_is_found_by_every_name_it_has(trial, tmp_path, capsys):
    record = trial.run(trial.Config(seed=3))
    folder = runs.place("trial", record.key)
    for name in (str(folder), record.key, record.key[:8]):
        assert find.find(name) == folder
    record.save(tmp_path / "results" / "trial" / "usual-seed3")
    for name in ("usual-seed3", "trial/usual-seed3"):
        assert find.find(name, tmp_path / "results").name == "usual-seed3"
    record.save(tmp_path / "results" / "vision" / "usual-seed3")
    with pytest.raises(ValueError, match="may be trial/usual-seed3, vision/usual-seed3; expected one"):
        find.find("usual-seed3", tmp_path / "results")
    with pytest.raises(ValueError, match="unknown run 'usual-sed3'; did you mean"):
        find.find("usual-sed3", tmp_path / "results")
    with pytest.raises(ValueError, match="unknown run 'qqqq'; expected one of the 2 stored runs that `list` prints"):
        find.find("qqqq", tmp_path / "results")
    with pytest.raises(ValueError, match=r"unknown run 'qqqq'; expected a notebook's \.ipynb.* No run is stored here"):
        find.find("qqqq", tmp_path / "none")
    assert main(["verify", "qqqq.ipynb"]) == 2
    assert "there is no notebook" in capsys.readouterr().err


def test_a_notebook_its_page_and_its_record_are_named_alike(trial, tmp_path, capsys):
    typed = ["run", "trials", "-p", "eps=1", "--seed", "4", "--profile", "smoke", "--out", "mine"]
    assert main(typed) == 0
    made = [f"trials-smoke-seed-4-eps-1.{ending}" for ending in ("html", "ipynb", "record")]
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == made
    assert Record.load(executed.record_of(Path("mine/trials-smoke-seed-4-eps-1.ipynb"))).config["seed"] == 4
    capsys.readouterr()
    assert main([*typed[:2], *typed[4:], *typed[2:4]]) == 0, (
        "the order in which parameters are typed counts for nothing"
    )
    assert "fresh" in capsys.readouterr().out
    for name in ("mine/trials-smoke-seed-4-eps-1.ipynb", "mine", "mine/"):  # its folder holds no other
        assert main(["show", name]) == 0
        told = " ".join(capsys.readouterr().out.split())
        for part in ("seed 4", "table rows: 2 rows", "packages.numpy", "peak_memory", "threads"):
            assert part in told
    Path("mine/other.ipynb").touch()
    assert main(["verify", "mine"]) == 2
    holds = f"mine holds 2 notebooks; expected one of {Path('mine/other.ipynb')}, {Path('mine', made[1])}\n"
    assert capsys.readouterr().err == f"error: {holds}"
    trial.run(trial.Config(seed=5, profile="smoke"))
    assert main(["list", "trials"]) == 0
    assert "seed=5" in capsys.readouterr().out
    assert main(["list"]) == 0
    assert "trials" in capsys.readouterr().out


def test_the_name_of_a_run_depends_on_its_parameters_and_not_on_the_folder(trial, tmp_path, capsys):
    other = execute.run(tmp_path / "notebooks" / "trials.md", {"seed": 3}, out=Path("taken")).path
    assert other.name == "trials.ipynb", "as `rank` names its page"
    held = other.read_bytes()
    names = {"first": ["seed-1"], "both": ["", "seed-1"], "taken": ["seed-1", "defaults"]}
    for folder, labels in names.items():
        for label in labels:
            words = ["run", "trials", *(["-p", "seed=1"] if label == "seed-1" else []), "--out", folder]
            stem = f"{folder}/trials-{label}".strip("-")
            for done in ("executed in", "fresh in"):
                assert main(words) == 0
                said = capsys.readouterr().out
                assert done in said
                assert f" {Path(stem)}.ipynb," in said
    assert other.read_bytes() == held
    for done in ("written to", "fresh in"):
        assert main(["run", "--all", "--profile", "smoke", "--out", "all"]) == 0
        assert capsys.readouterr().out.endswith(f"{done} {Path('all/trials-smoke.ipynb')}\n")


def test_a_run_without_samples_is_verified_only_as_a_whole(trial, tmp_path, capsys):
    record = trial.run(trial.Config())
    assert main(["verify", "--tables", record.key]) == 2
    told = "runs of the experiment trial keep no samples to derive tables from; use verify without --tables"
    assert capsys.readouterr().err == f"error: {told}\n"
    replace(record, provenance={}).save(tmp_path / "by hand")
    for words in (["verify"], ["verify", "--tables"]):
        assert main([*words, str(tmp_path / "by hand")]) == 2
        assert "does not say which module made it" in capsys.readouterr().err


def test_a_broken_record_is_computed_anew_only_in_the_cache(trial, tmp_path, capsys):
    record = trial.run(trial.Config())
    folder = runs.place("trial", record.key)
    record.save(tmp_path / "copy")
    for path, instead in ((folder, "a run computes it anew"), (Path("copy"), "expected the folder as it was written")):
        (path / "arrays.npz").unlink()
        assert main(["verify", str(path)]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"error: broken record {path}: ")
        assert told.endswith(f"; {instead}\n")
        assert told.count("\n") == 1


def test_what_two_runs_differ_in(trial, capsys):
    one, other = (trial.run(trial.Config(seed=seed)) for seed in (0, 1))
    found = compare.differences(one, other)
    assert found["parameters"].to_numpy().tolist() == [["seed", 0, 1]]
    assert found["rows"]["column"].tolist() == ["value", "value"]
    assert found["rows"]["second"].tolist() == other.tables["rows"]["value"].tolist()
    assert found["other"].empty
    assert main(["diff", one.key, other.key]) == 1
    assert "seed" in capsys.readouterr().out
    assert main(["diff", one.key, one.key]) == 0


def changed(record: Record, value: list[float], **provenance: object) -> Record:
    table = record.tables["rows"].assign(value=value, value_low=[-1.0, -1.0], value_high=[1.0, 1.0])
    origin = record.provenance | provenance
    return Record(record.experiment, record.config, record.tables | {"rows": table}, record.arrays, origin)


def test_verified_to_the_last_bit_here_and_within_intervals_elsewhere(trial, capsys, monkeypatch):
    record = trial.run(trial.Config(seed=0))
    assert main(["verify", record.key]) == 0
    told = capsys.readouterr()
    assert "verified: compared to the last bit" in told.out
    assert "runs trial again; it took 0:0" in told.err
    assert f"(hours:minutes:seconds) on {record.provenance['device']}" in told.err
    own = record.tables["rows"]["value"].tolist()
    monkeypatch.setattr(trial, "run", lambda config, cache: changed(record, own))
    nearly = [float(np.nextafter(own[0], 9)), own[1]]
    assert not compare.verify(changed(record, nearly)).holds, "here nothing may differ"
    elsewhere = compare.verify(changed(record, [own[0] + 0.1, own[1]], platform="another"))
    assert elsewhere.holds
    assert "platform" in elsewhere.rule
    monkeypatch.setattr(trial, "run", lambda config, cache: changed(record, [2.0, own[1]]))
    outside = compare.verify(changed(record, own, platform="another", source="older"))
    assert not outside.holds
    plain = replace(record, tables=record.tables | {"other": pd.DataFrame({"n": [1.0]})})  # without an interval
    monkeypatch.setattr(trial, "run", lambda config, cache: plain)
    for n, holds in ((1.00001, True), (1.001, False)):
        other = replace(plain, tables=plain.tables | {"other": pd.DataFrame({"n": [n]})})
        elsewhere = replace(other, provenance=other.provenance | {"platform": "another"})
        assert compare.verify(elsewhere).holds == holds


def test_an_end_of_an_interval_is_passed_over_only_beside_its_estimate():
    table = pd.DataFrame({"r": [0.1], "low": [0.0], "rho_low": [0.1], "gain": [1.0], "gain_high": [2.0]})
    record = Record("trial", {}, {"one": table, "bare": table[["low"]]}, {}, {})
    agrees = partial(compare._agrees, record)
    assert agrees("one", "0", "low", 0.0, -5.0)
    assert agrees("one", "0", "gain_high", 2.0, 3.0)
    assert not agrees("one", "0", "rho_low", 0.1, 99.0)
    assert not agrees("bare", "0", "low", 0.0, -5.0)


def test_help_tells_a_notebooks_parameters(trial, capsys):
    assert main(["run", "trials", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "eps float, > 0 0.5 radius" in told
    assert "mood well | fails | dies once | dies | kills well what happens" in told
    kinds = {name: kind for name, kind, _, _ in meaning(trial.Config)}
    assert kinds["seed"] == "int, ≥ 0, < 4294967296"
    assert described(trial.Config.model_fields["seconds"]) == "float, ≥ 0"
    assert trial.Config(seconds="1/4").seconds == 0.25


def test_energy_is_what_the_meters_moved_by(tmp_path, monkeypatch):
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "max_energy_range_uj").write_text("10000000")
    (zone / "energy_uj").write_text("9000000")
    monkeypatch.setattr(costs, "POWERCAP", tmp_path)
    with costs.metered() as cost:
        (zone / "energy_uj").write_text("2500000")  # started again from zero on its way
        held = np.ones(4_000_000)
    assert cost["energy"] == {"intel-rapl:0": 3.5}
    assert cost["peak_memory"] > held.nbytes
    monkeypatch.setattr(costs, "POWERCAP", tmp_path / "none")
    with costs.metered() as cost:
        pass
    assert "energy" not in cost


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is that since the start of the process")
def test_the_memory_that_a_parent_has_had_is_not_that_of_a_run(monkeypatch):
    child = "from advtransfer.records import costs\nwith costs.metered() as c: pass\nprint(c['peak_memory'])"
    held = np.ones(150_000_000)  # 1.2 GB
    size = held.nbytes
    del held
    monkeypatch.setenv("ADVTRANSFER_DEVICE", "cpu")
    found = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True).stdout
    assert int(found) < size / 2


def test_the_page_of_a_run_says_which_parameters_are_not_the_defaults(tmp_path):
    node = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title")])
    for differs, said in (({}, []), ({"profile": "smoke", "seed": 1}, ["profile = smoke", "seed = 1", "for tests"])):
        node.metadata["advtransfer"] = {"differs": differs}
        nbformat.write(node, tmp_path / "a.ipynb")
        export.write_html(tmp_path / "a.ipynb", tmp_path / "a.html")
        page = (tmp_path / "a.html").read_text(encoding="utf-8")
        assert ("Run with" in page) == bool(said)
        assert all(words in page for words in said)


def test_a_page_says_what_the_book_would():
    text = "(label)=\n# Title\n{glue:text}`share:.1%` of {glue:text}`lost:d`, {ref}`see <there>`, {py:mod}`~a.b.c`."
    assert export.resolved(text, {"share": 0.1234}) == "# Title\n12.3% of ?, see, c."
    assert export.resolved("{glue:text}`share:.1%`", {"share": "nan"}) == "nan"
    links = {("ref", "there"): ("A title", "https://a.b/c.html#there"), ("cite:p", "x2020"): ("[X, 2020]", "")}
    text = "{ref}`see <there>`, {ref}`there`, {cite:p}`x2020`, {prf:ref}`thm`."
    assert export.resolved("{cite:p}`doe2020,roe2021`, by {cite:t}`doe2020`", {}) == "[Doe 2020, Roe 2021], by Doe 2020"
    said = "[see](https://a.b/c.html#there), [A title](https://a.b/c.html#there), [X, 2020], thm."
    assert export.resolved(text, {}, links) == said


def test_roles_go_from_what_cells_show_and_from_captions_too():
    shown = nbformat.v4.new_output("display_data", {"text/markdown": "as {doc}`Table 1 <cifar_to_stl>` says"})
    cell = nbformat.v4.new_code_cell("show()", outputs=[shown])
    cell.metadata["mystnb"] = {"figure": {"name": "fig", "caption": "see {ref}`there`"}}
    node = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("{ref}`a <b>`"), cell])
    export.resolve(node)
    assert node.cells[0].source == "a"
    assert cell.outputs[0].data["text/markdown"] == "as Table 1 says"
    assert cell.metadata["mystnb"]["figure"] == {"name": "fig", "caption": "see there"}


def test_text_that_differs_is_told_with_its_row():
    one, other = (Record("e", {}, {"t": pd.DataFrame({"a": [text]})}, {}, {}) for text in "xy")
    assert compare.differences(one, other)["t"].to_numpy().tolist() == [["0, x", "a", "x", "y"]]


def test_a_reader_who_has_read_enough_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "advtransfer", "show", "vision/full-seed0"],
        cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 0)
