"""Sweeps on real processes: everything there in the end, nothing twice, nothing broken, whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import types
from collections import Counter
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import trials
from advtransfer.commands import sweep as sweeps
from advtransfer.commands.main import main
from advtransfer.extras import MissingExtraError, require
from advtransfer.notebooks.read import read
from advtransfer.records import storage
from advtransfer.records.published import published
from advtransfer.records.record import Record
from advtransfer.records.runs import place
from advtransfer.sweeps import compute, tables, workers
from advtransfer.sweeps import plan as plans
from advtransfer.sweeps.collect import collect, summarise

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.fixture
def notebook(toys):
    yield trials.write(toys)
    sys.modules.pop("toys.trial", None)


def planned(path: Path, *grid: str, **fixed: object) -> plans.Plan:
    return plans.plan(read(path), {"profile": "smoke", **fixed}, plans.axes(grid))


def pool() -> workers.Engine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVTRANSFER_DEVICE", "cpu")
        return workers.local(2)


def whole(plan: plans.Plan, cache: Path) -> dict[str, str]:
    """The digest of every record of a plan, each read and checked; nothing half-written may lie beside one."""
    left = list(cache.rglob(".writing-*"))  # but a worker that is killed after it wrote a record leaves its lock
    assert not [path for path in left if any(key in path.name for key in plans.kept(plan))]
    return {key: Record.load(place(plan.experiment, key)).digest for key in plans.kept(plan)}


def test_failed_and_killed_runs_stop_no_other(notebook, toys, cache):
    plan = planned(notebook, "mood=well,fails,dies,dies once", "seed=0:3")
    done = compute.sweep(plan, pool)
    moods = {run.key: run.set["mood"] for run in plan.runs}
    assert Counter(moods[key] for key in done.computed) == {"well": 3, "dies once": 3, "dies": 2}
    assert Counter(moods[key] for key in done.failed) == {"fails": 3, "dies": 1}
    for key, trouble in done.failed.items():
        assert ("is in no mood" in trouble and "trial.py" in trouble) or (
            moods[key] == "dies" and trouble == compute.LOST
        )
    assert set(whole(plan, cache)) == done.computed
    before = len(trials.log(toys, "start"))
    again = compute.sweep(planned(notebook, "mood=well,dies once", "seed=0:3"), lambda: pytest.fail("nothing to do"))
    assert (len(again.found), len(again.computed)) == (6, 0)
    assert len(trials.log(toys, "start")) == before


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "advtransfer", *words]


def test_a_sweep_killed_at_any_moment_goes_on(notebook, toys, cache, tmp_path):
    grid = ["--grid", "seed=0:12", "--grid", "seconds=0.15"]
    typed = command("sweep", "trials", "--profile", "smoke", "--workers", "2", *grid)
    for started in (2, 5, 9):
        process = subprocess.Popen(typed, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        trials.until(lambda started=started: len(trials.log(toys, "start")) >= started, 300)
        there = {path.name for path in cache.glob("records/trial/??/[0-9a-f]*")}
        assert process.poll() is None
        process.kill()
        process.wait()
        assert there <= {path.name for path in cache.glob("records/trial/??/[0-9a-f]*")}
        trials.until(lambda: not trials.running(cache), 60)  # its workers end with it
    ended = subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    plan = planned(notebook, "seed=0:12", "seconds=0.15")
    assert len(whole(plan, cache)) == 12
    table = pd.read_parquet(tmp_path / "trials-sweep" / "trials-sweep-runs.parquet")
    assert table["seed"].tolist() == [seed for seed in range(12) for _ in range(2)]
    names = {"trials-sweep", "trials-sweep-runs"}
    assert {path.stem for path in (tmp_path / "trials-sweep").iterdir()} == names


def test_two_sweeps_at_once_compute_no_run_twice(notebook, toys, cache, tmp_path):
    plan = planned(notebook, "seed=0:10", "seconds=0.3")
    script = """
import os, sys
from pathlib import Path
from advtransfer.notebooks.read import read
from advtransfer.sweeps import compute, workers
os.environ["ADVTRANSFER_DEVICE"] = "cpu"
from advtransfer.sweeps import plan as plans
if __name__ == "__main__":
    plan = plans.plan(read(Path(sys.argv[1])), {"profile": "smoke"}, plans.axes(["seed=0:10", "seconds=0.3"]))
    done = compute.sweep(plan, lambda: workers.local(1))
    print(len(done.done), len(done.failed))
"""
    (tmp_path / "one.py").write_text(script)
    typed = [sys.executable, str(tmp_path / "one.py"), str(notebook)]
    both = [subprocess.Popen(typed, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in both] == ["10 0\n"] * 2
    assert max(Counter(trials.log(toys, "start")).values()) == 1
    assert len(whole(plan, cache)) == 10


def test_a_lock_is_let_go_by_a_kill_and_what_was_half_written_removed(tmp_path, monkeypatch):
    path = tmp_path / "thing"
    script = "import os, sys, pathlib; from advtransfer.records import storage\np = pathlib.Path(sys.argv[1])\n"
    script += "with storage.locked(p), storage.replacing(p) as d:\n d.write_text('half'); print('held', flush=True)\n"
    script += " sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(storage.Busy, match="being computed"), storage.locked(path, wait=False):
        pass
    assert list(tmp_path.glob(".writing-*"))
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with storage.locked(path, wait=False):
        assert not list(tmp_path.glob(".writing-*"))
    assert list(tmp_path.iterdir()) == []
    for name in ("thing-12345678", "thing-2-12345678"):  # killed between two renames
        (tmp_path / f".writing-{name}" / storage.REPLACED).mkdir(parents=True)
    (tmp_path / ".writing-thing-12345678" / storage.REPLACED / "own").touch()
    with storage.locked(path):
        assert (path / "own").is_file()
    assert (tmp_path / ".writing-thing-2-12345678").is_dir()  # of something else
    monkeypatch.setattr(Path, "replace", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), storage.replacing(path) as draft:
        draft.mkdir()
    assert (path / "own").is_file()


def test_a_dask_cluster_without_a_shared_folder_gives_the_same_records(notebook, toys, cache, tmp_path, monkeypatch):
    """A scheduler and two workers in processes of their own; one of them is killed in mid-run."""
    distributed = pytest.importorskip("distributed", reason="Dask is an extra: .[dask]")
    plan = planned(notebook, "seed=0:24", "seconds=0.2")
    file = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    serve = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--scheduler-file", str(file), "--port", "0",
             "--no-dashboard", "--no-show"]  # fmt: skip
    hand = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--nthreads", "1",
            "--no-dashboard", "--nanny"]  # fmt: skip
    processes = [subprocess.Popen(serve, **quiet)]
    try:
        for name in "ab":
            own = {"ADVTRANSFER_CACHE": str(tmp_path / name), "OMP_NUM_THREADS": "1"}
            processes.append(subprocess.Popen([*hand, "--local-directory", str(tmp_path / f"{name}-files")],
                                              env=os.environ | own, **quiet))  # fmt: skip
        with distributed.Client(scheduler_file=str(file), timeout=30) as client:
            client.wait_for_workers(2, timeout=30)
            address = client.scheduler.address
            victim = next(iter(client.run(os.getpid).values()))
        with ThreadPoolExecutor(1) as beside:
            under_way = beside.submit(compute.sweep, plan, lambda: workers.dask(address))
            trials.until(lambda: len(trials.log(toys, "end")) >= 4 or under_way.done(), 300)
            assert not under_way.done()
            os.kill(victim, signal.SIGKILL)
            done = under_way.result(timeout=120)
        assert (len(done.computed), done.failed) == (24, {})
    finally:
        for process in processes:
            process.terminate()
            process.wait()
    sent = whole(plan, cache)
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path / "alone"))
    compute.sweep(plan, pool)
    assert sent == whole(plan, tmp_path / "alone")


def test_jobs_through_submitit(notebook, cache, monkeypatch):
    """Submitit's executor for debugging, which runs jobs here; each has its share of the runs."""
    pytest.importorskip("submitit", reason="submitit is an extra: .[slurm]")
    plan = planned(notebook, "seed=0:9", "mood=well,fails")
    done = compute.sweep(plan, lambda: workers.slurm(1, ["timeout_min=5"], cluster="debug"))
    assert (len(done.computed), len(done.failed)) == (9, 9)
    with pytest.raises(ValueError, match="Slurm cannot be used as asked"):
        workers.slurm(1, ["colour=red"], cluster="debug")


def test_a_job_that_is_killed_loses_no_finished_run_and_is_tried_again(notebook, toys, cache):
    """Submitit's executor for one machine starts real processes."""
    pytest.importorskip("submitit", reason="submitit is an extra: .[slurm]")
    plan = planned(notebook, "mood=well,dies once", "eps=0.21,0.22,0.23", "seed=0")
    done = compute.sweep(plan, lambda: workers.slurm(1, ["timeout_min=5"], cluster="local"))
    assert (len(done.computed), done.failed) == (6, {})
    ended = trials.log(toys, "end")
    assert len(ended) == len(set(ended)) == 6


def test_of_a_lost_job_only_the_runs_without_a_record_are_computed_again(notebook, cache):
    plan, submitted = planned(notebook, "seed=0:6"), []

    class Dies(ThreadPoolExecutor):
        """The first job computes all but one of its runs, and dies."""

        def submit(self, call, task):
            first, _ = not submitted, submitted.append([key for key, _ in task.runs])

            def job():
                if first:
                    call(replace(task, runs=task.runs[:-1]))
                    raise BrokenExecutor
                return call(task)

            return super().submit(job)

    done = compute.sweep(plan, lambda: workers.Engine(lambda: Dies(1), 1, tasks=1))
    assert (len(done.computed), done.failed) == (6, {})
    assert submitted == [[run.key for run in plan.runs], [plan.runs[-1].key]]


def test_a_dry_run_computes_nothing_and_another_table_can_be_collected(
    notebook, toys, cache, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    typed = ["sweep", "trials", "--profile", "smoke", "--grid", "seed=0:3", "--workers", "1"]
    assert main([*typed, "--dry-run"]) == 0
    assert capsys.readouterr().out == "trials: 3 runs, 3 of them missing\n"
    assert not trials.log(toys, "start")
    assert main([*typed, "--table", "other"]) == 0
    table = pd.read_parquet(tmp_path / "trials-sweep" / "trials-sweep-runs.parquet")
    assert table["n"].tolist() == [1, 1, 1]
    assert main([*typed, "--dry-run"]) == 0
    assert "3 runs, 0 of them missing" in capsys.readouterr().out


def test_a_sweep_replaces_only_what_is_its_own(notebook, toys, cache, tmp_path):
    kept = tmp_path / "out" / "failed" / "notes.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("keep")
    good, bad = planned(notebook, "seed=0:2"), planned(notebook, "seed=0:2", "mood=fails")
    for plan, left in ((good, 4), (bad, 0), (good, 4)):
        outcome = compute.sweep(plan, lambda: workers.local(1))
        files = compute.write(plan, outcome, collect(plan, outcome.done)[0], tmp_path / "out")
        assert len(files) == len(list((tmp_path / "out").glob("trials-sweep*"))) == left
        assert len(list((tmp_path / "out" / "failed").glob("trials-*.txt"))) == len(outcome.failed)
    assert kept.read_text() == "keep"


def test_a_sweep_replaces_one_whose_runs_it_has_and_no_other_file(notebook, toys, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweeps, "page", lambda *given: [])
    typed = ["sweep", "trials", "--profile", "smoke", "--workers", "1", "--grid"]
    out = Path("trials-sweep")

    def refused(words: list[str], told: str) -> None:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*sweep*.*")}, trials.log(toys, "start")
        assert main([*typed, *words]) == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"error: {told}; expected another folder in --out"
        assert before == ({path: path.read_bytes() for path in before[0]}, trials.log(toys, "start"))

    another = f"{out} holds a sweep of trials with other parameters"
    assert main([*typed, "seed=0:2", "-p", "eps=1/4"]) == 0
    for words in (["eps=1/2,1/3"], ["seed=0:2"], ["seed=0:4", "-p", "eps=1/2"], ["seed=1:4", "-p", "eps=1/4"]):
        refused(words, another)
    assert main([*typed, "seed=0:2", "-p", "eps=0.25"]) == 0, "the same sweep, typed in another way"
    assert main([*typed, "seed=0:3", "-p", "eps=1/4", "--table", "other"]) == 0
    assert main([*typed, "seed=0:3", "--grid", "eps=1/4,1/2"]) == 0
    assert len(pd.read_parquet(out / "trials-sweep-runs.parquet")) == 12
    refused(["seed=0:3", "-p", "eps=1/4"], another)
    (out / "trials-sweep.html").touch()
    (out / "trials-sweep.parquet").unlink()
    refused(["seed=0:3", "--grid", "eps=1/4,1/2"], f"{out}/trials-sweep.csv was not written by a sweep of trials")
    Path("mine").mkdir()
    Path("mine/trials-sweep-runs.csv").write_text("my own")
    own = "mine/trials-sweep-runs.csv was not written by a sweep of trials"
    refused(["seed=0:2", "--out", "mine"], own)


def test_a_sweep_collects_the_table_that_answers_and_names_the_others(notebook, tmp_path, monkeypatch, capsys):
    """Every notebook of the book, against the columns that are published; then one sweep, with its page."""
    for path in sorted(NOTEBOOKS.glob("*.md")):
        module = read(path).experiment_module
        assert tables.shown(module.__name__).table in tables.names(module), path
    for name in ("vision", "similarity", "text", "ablations"):
        asked = tables.EXPERIMENTS[name]
        for record in published(name).values():
            assert {"alpha1", "alpha2", "alpha12"} <= {*record.tables[asked.table].columns}
            assert {*asked.labels} <= {column for table in record.tables.values() for column in table.columns}
    assert main(["sweep", str(NOTEBOOKS / "cifar_to_stl.md"), "--help"]) == 0
    listed = "tables of its records, for --table: models, sources, transfers, samples, correlations (default: sources)"
    assert listed in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(read(notebook).experiment_module, "TABLES", ("rows", "other"), raising=False)
    monkeypatch.setattr(tables, "shown", lambda module: tables.Shown("other"))
    assert main(["sweep", "trials", "--profile", "smoke", "--grid", "seed=0:2", "--workers", "1"]) == 0
    assert pd.read_csv("trials-sweep/trials-sweep.csv")["measure"].tolist() == ["n"]
    page = Path("trials-sweep/trials-sweep.ipynb").read_text(encoding="utf-8")
    assert "This is the table `other` of the records. `--table` chooses another: `rows`." in page


@pytest.mark.parametrize("experiment", ["vision", "similarity", "text", "ablations"])
def test_the_same_columns_are_labels_in_every_grid(experiment):
    """All tables of a published record: in a grid that changes no number, in one that changes all, and in one run."""
    record = next(iter(published(experiment).values()))
    labels = tables.EXPERIMENTS[experiment].labels
    for table in record.tables.values():
        numbers = [name for name in table if pd.api.types.is_numeric_dtype(table[name])]
        if not numbers:
            with pytest.raises(ValueError, match="expected one with a measure"):
                summarise(table.assign(seed=0), ("seed",), labels)
            continue
        flags = [name for name in numbers if table[name].dtype == bool]
        changed = table.assign(**{name: ~table[name] if name in flags else table[name] + 1 for name in numbers})
        for grid in ([table, table], [table, changed], [table]):
            rows = pd.concat([part.assign(steps=k) for k, part in enumerate(grid)], ignore_index=True)
            means = summarise(rows, ("steps",), labels)
            columns = {*means.columns[: means.columns.get_loc("measure")]}
            assert columns & {*numbers} == {*labels} & {*numbers}
            assert "row" not in columns, "its labels tell the rows apart"
            assert {*means["measure"].str.removesuffix("_of_row")} == {*numbers} - {*labels}


def test_a_table_without_rows_replaces_nothing(notebook, tmp_path):
    plan = planned(notebook, "seed=0:2")
    outcome = compute.sweep(plan, lambda: workers.local(1))
    files = compute.write(plan, outcome, collect(plan, outcome.done)[0], tmp_path)
    with pytest.raises(ValueError, match="has no rows; expected another one in --table"):
        compute.write(plan, outcome, pd.DataFrame(), tmp_path)
    assert all(path.exists() for path in files)


def test_a_worker_with_other_data_says_so(notebook, cache):
    plan = planned(notebook, "seed=0:2")
    key = plan.runs[0].key
    task = workers.Task(
        plan.module, ((key, {"seed": 5}), (plan.runs[1].key, {"profile": "smoke", "seed": 1})), "another", False
    )
    other, same = workers.work(task)
    assert "would compute something else" in other.trouble
    assert same.record is not None
    assert same.record.key == plan.runs[1].key


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trails", "--grid", "seed=0:2"], "unknown notebook 'trails'; did you mean 'trials'"),
        (["trials", "--grid", "epsilon=1"], "unknown parameter 'epsilon'; did you mean 'eps'"),
        (["trials"], "the grid is empty"),
        (["trials", "--grid", "seed=3:3"], "has no values"),
        (["trials", "--grid", "seed=0:2", "--grid", "seed=1"], "has 'seed' twice"),
        (["trials", "--grid", "seed=0:10000000"], "has 10,000,000 combinations; expected at most 10,000, or --yes"),
        (["trials", "--grid", "seed=0:2", "--dask", "tcp://127.0.0.1:9"], "no Dask scheduler answers at tcp://127"),
        (["trials", "--grid", "seed=0:2", "--slurm"], "Slurm cannot be used as asked"),
        (["trials", "--grid", "seed=0:2", "--workers", "0"], "--workers is 0; expected at least 1"),
        (["trials", "--grid", "seed=0:2", "--slurm", "--workers", "-1"], "--workers is -1; expected at least 1"),
        (["trials", "--grid", "seed=0:2", "--slurm-option", "a=1"], "--slurm-option is for --slurm"),
        (["trials", "--grid", "seed=0:2", "--dask", "tcp://h:9", "--workers", "2"], "expected it without --dask"),
        (["trials", "--grid", "seed=0:2", "--out", "file/out"], "cannot write to file/out"),
        ([], "no notebook given"),
    ],
)
def test_what_cannot_be_done_is_told_at_once(notebook, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    monkeypatch.setattr(workers, "TIMEOUT", 0.5)
    Path("file").touch()
    if "--dask" in words:
        pytest.importorskip("distributed")
    if "--slurm" in words:
        pytest.importorskip("submitit")
    assert main(["sweep", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "toys" / "log.txt").exists()


def test_a_sweep_without_its_data_is_refused_before_any_worker_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(workers, "local", lambda *given: pytest.fail("workers were started"))
    assert main(["sweep", "cifar_to_stl", "--grid", "seed=0:2", "--out", str(tmp_path / "out")]) == 2
    assert "cifar_to_stl cannot run here:" in (told := capsys.readouterr().err)
    assert "data fetch cifar10" in told
    assert not (tmp_path / "out").exists()


def test_a_broken_record_is_replaced_by_one_that_a_worker_sends(notebook, toys, cache):
    plan = planned(notebook, "seed=0:1")
    compute.sweep(plan, pool)
    (run,) = plan.runs
    folder = place(plan.experiment, run.key)
    sent = Record.load(folder)
    (folder / "record.json").write_text("{")
    assert compute._keep(plan, workers.Result(run.key, sent.digest, sent)) == ""
    assert Record.load(folder).digest == sent.digest


def test_a_cache_with_an_empty_name_gets_one(cache):
    cache.mkdir(exist_ok=True)
    (cache / "id").touch()
    assert len(workers.cache_id(make=True)) == 32


@pytest.mark.parametrize(
    ("noted", "asked"),
    [
        (None, "'advtransfer[dask]'"),
        ({"url": "file:///src/it", "dir_info": {"editable": True}}, "-e '/src/it[dask]'"),
        ({"url": "file:///it.whl", "archive_info": {}}, "'advtransfer[dask] @ file:///it.whl'"),
        ({"url": "https://h.org/o/n.git", "vcs_info": {"vcs": "git", "commit_id": "ab1"}},
         "'advtransfer[dask] @ git+https://h.org/o/n.git@ab1'"),
    ],
)  # fmt: skip
def test_an_extra_is_installed_from_where_the_package_came(monkeypatch, noted, asked):
    told = types.SimpleNamespace(read_text=lambda name: json.dumps(noted) if noted else None)
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: told)
    with pytest.raises(MissingExtraError) as error:
        require("dask", "no_such_module")
    assert str(error.value) == f"no_such_module is not installed; install it with: python -m pip install {asked}"


@pytest.mark.parametrize("extra", ["dask", "slurm"])
def test_a_missing_extra_is_named(monkeypatch, extra):
    monkeypatch.setitem(sys.modules, {"dask": "distributed", "slurm": "submitit"}[extra], None)
    with pytest.raises(MissingExtraError, match=rf"is not installed; .* -m pip install .*\[{extra}\]"):
        workers.dask("tcp://127.0.0.1:9") if extra == "dask" else workers.slurm(1)


def test_what_a_builder_prints_in_a_worker_is_not_in_the_results(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "nets.py").write_text(
        "from torch import nn\ndef make():\n    print('built')\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))\n"
    )
    (tmp_path / "pool.toml").write_text("[a]\nbuild = 'nets.py:make'")
    given = {"pool": tmp_path / "pool.toml", "data": "made-up", "only": "1-NN", "labels": 40}
    words = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
    out = str(tmp_path / "out")
    assert main(["sweep", "choose_a_source", *words, "--grid", "seed=0,1", "--out", out, "--json"]) == 0
    told = capfd.readouterr()
    assert json.loads(told.out)["runs"] == 2
    assert told.err.count("built") == 2
