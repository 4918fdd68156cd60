"""What breaks in the world outside: kills, damaged files, full and read-only disks, odd places. Nothing is lost or used
that is wrong, and each message says what to do. Every fault is really injected."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

import trials
from advtransfer import datasets
from advtransfer.commands import parameters
from advtransfer.commands.main import main
from advtransfer.datasets import fetching, generated, sources, store
from advtransfer.datasets.store import Arrays
from advtransfer.notebooks import execute, find
from advtransfer.notebooks.read import NotebookError, read
from advtransfer.records import weights
from advtransfer.records.find import find as records_find
from advtransfer.records.published import check_place, published
from advtransfer.records.record import Record
from advtransfer.records.runs import place

ROOT = Path(__file__).parents[1]
ADVTRANSFER = [sys.executable, "-m", "advtransfer"]


@pytest.fixture
def trial(toys, monkeypatch):
    """The notebook of a toy experiment, `trials.md`, beside which this test runs."""
    path = trials.write(toys)
    monkeypatch.chdir(toys.parent)
    yield path
    sys.modules.pop("toys.trial", None)


@pytest.fixture
def disk(tmp_path):
    """A disk of 100 kB; as a function, it becomes read-only."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("this machine does not let us mount a disk")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def read_only(place):
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)


def command(*words, **options):
    return subprocess.run([*ADVTRANSFER, *words], capture_output=True, text=True, encoding="utf-8", **options)


def left(folder):
    return [path for path in folder.rglob("*") if ".writing-" in path.name or path.suffix == ".part"]


# Notebooks that are no longer what a run wrote.


def test_a_notebook_that_papermill_executed_again_is_not_taken_for_the_run(trial):
    import papermill

    execute.run(trial, {"seed": 0}, whole=True)
    papermill.execute_notebook("notebooks/trials.ipynb", "again.ipynb", {"seed": 1}, progress_bar=False)
    for words in (
        ["show", "again.ipynb"],
        ["verify", "again.ipynb"],
        ["diff", "notebooks/trials.ipynb", "again.ipynb"],
    ):
        told = command(*words)
        assert told.returncode == 2
        assert told.stderr.startswith("error: again.ipynb is no longer what `advtransfer run` wrote")
        assert told.stderr.count("\n") == 1
    shutil.copy("notebooks/trials.ipynb", "copy.ipynb")  # an exact copy is the run itself
    assert json.loads(command("show", "copy.ipynb", "--json").stdout)["parameters"]["seed"] == 0
    assert command("verify", "copy.ipynb").returncode == 0


@pytest.mark.parametrize("edit", ["output", "source", "cell"])
def test_an_edited_page_is_told_kept_and_executed_anew(trial, capsys, edit):
    path = execute.run(trial).path
    whole = path.read_text()
    node = json.loads(whole)
    if edit == "output":
        node["cells"][-1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["α1 = 0.99"]}]
    elif edit == "source":
        node["cells"][-1]["source"] += ["\n1 + 1"]
    else:
        node["cells"].append({"cell_type": "markdown", "id": "more", "metadata": {}, "source": ["My note."]})
    path.write_text(json.dumps(node))
    edited = path.read_text()
    assert main(["run", "trials"]) == 0
    told = capsys.readouterr()
    assert "executed in" in told.out
    assert f"{path.with_suffix('.edited.ipynb')}" in told.err.replace("notebooks/", f"{path.parent}/", 2)
    assert path.read_text() == whole
    assert path.with_suffix(".edited.ipynb").read_text() == edited
    path.write_text(edited.replace("# Trials", "# Tribes"))  # edited once more: neither edit is lost
    again = execute.run(trial).edited
    assert again.name == "trials.edited-2.ipynb"
    assert again.read_text() != path.with_suffix(".edited.ipynb").read_text() == edited


def test_a_notebook_that_jupyter_only_saved_again_is_still_the_run(trial):
    path = execute.run(trial).path
    node = json.loads(path.read_text())
    node["metadata"]["language_info"] = {"name": "python", "version": "3.99"}
    for number, cell in enumerate(node["cells"]):
        cell["metadata"]["trusted"] = True
        if cell["cell_type"] == "code":
            cell["execution_count"] = number
    path.write_text(json.dumps(node, indent=4))
    assert not execute.run(trial).executed


def test_no_run_takes_the_place_of_another(trial, tmp_path):
    made = [execute.run(trial, {"seed": seed}, out=tmp_path / "out").path.name for seed in (0, 1, 2, 1)]
    assert made == ["trials.ipynb", "trials-seed-1.ipynb", "trials-seed-2.ipynb", "trials-seed-1.ipynb"]
    assert execute.run(trial, {"seed": 1}).path.name == "trials.ipynb"
    assert execute.run(trial).path.name == "trials-defaults.ipynb", "the defaults do not take its place, either"
    (trial.parents[1] / "_toc.yml").write_text("root: index\n")
    assert execute.run(trial, {"seed": 1}).path.name == "trials-seed-1.ipynb", "in a book, the name is that of the page"
    close = [execute.run(trial, {"eps": eps}, out=tmp_path / "out").path for eps in (0.100001, 0.100002)]
    assert close[0].name == "trials-eps-0.1.ipynb"
    assert close[1] not in (close[0], *made)
    long = execute.run(trial, {"seed": 7, "mood": "well", "eps": "1/7", "seconds": 1e-9, "profile": "smoke"}).path.name
    assert len(long) < 120


def test_a_profile_has_defaults_of_its_own(trial, tmp_path):
    """A value that is usual in another profile is none in this one."""
    source = trial.parents[1] / "toys" / "trial.py"
    source.write_text(source.read_text().replace('"smoke": {}', '"smoke": {"seconds": 0.01}'))
    small, usual = {"profile": "smoke"}, {"profile": "smoke", "seconds": 0}
    assert read(trial).resolve({**small, "seconds": 0.01}).differs == small
    made = [execute.run(trial, given, out=tmp_path / "out").path.name for given in (small, usual)]
    assert made == ["trials.ipynb", "trials-smoke-seconds-0.ipynb"]


def test_of_two_runs_at_once_neither_takes_the_place_of_the_other(trial, tmp_path):
    slow = [*ADVTRANSFER, "run", "trials", "-p", "seconds=3", "--out", "out"]
    both = [subprocess.Popen([*slow, f"-pseed={seed}"], stdout=subprocess.PIPE, text=True) for seed in (1, 2)]
    written = [each.communicate()[0] for each in both]
    names = sorted(path.name for path in Path("out").glob("*.ipynb"))
    assert len(names) == 2
    for seed, said in zip((1, 2), written, strict=True):
        name = said.split("written to ")[1].split(",")[0]
        assert json.loads(Path(name).read_text())["metadata"]["advtransfer"]["parameters"]["seed"] == seed


def test_a_page_whose_record_is_lost_is_executed_anew(trial, cache):
    first = execute.run(trial)
    shutil.rmtree(cache)
    assert not execute.run(trial).executed
    assert execute.run(trial, whole=True).executed
    shutil.rmtree(cache)
    assert not execute.run(trial, whole=True).executed
    shutil.rmtree(first.path.with_suffix(".record"))
    assert execute.run(trial, whole=True).executed


def test_a_page_beside_is_never_older_than_the_notebook(trial):
    run = execute.run(trial, whole=True)
    page = run.path.with_suffix(".html")
    trial.write_text(trial.read_text() + "\nA new sentence.\n")
    execute.run(trial)  # as `make book` does, without the page
    assert not page.exists()
    execute.run(trial, whole=True)
    assert "A new sentence." in page.read_text("utf-8")


def test_in_the_folder_of_the_notebooks_a_bare_name_will_do(trial, monkeypatch):
    monkeypatch.chdir(trial.parent)
    assert command("run", "trials.md").returncode == 0
    assert trial.with_suffix(".ipynb").is_file()


def test_relative_places_mean_those_of_the_caller(trial, monkeypatch):
    monkeypatch.setenv("ADVTRANSFER_CACHE", "here")
    assert command("run", "trials").returncode == 0
    assert list(Path("here").glob("**/record.json"))
    assert not (trial.parent / "here").exists()
    Path("models/bert").mkdir(parents=True)
    for name in ("pool.toml", "1", "quick"):
        Path(name).touch()
    given = {"encoder": "models/bert", "pool": "pool.toml", "data": "models", "target": "a/b", "seed": "1"}
    given["profile"] = "quick"
    absolute = {name: str(Path(given[name]).absolute()) for name in ("encoder", "pool")}
    assert parameters.placed(given) == {**given, **absolute}


# Data.

SMALL = {"n_train": 50, "n_test": 20}


def small_cifar(root):
    made = generated(seed=1, **SMALL)
    x_train, x_test = (x.permute(0, 2, 3, 1).contiguous().numpy() for x in (made.x_train, made.x_test))
    arrays = Arrays(x_train, made.y_train.numpy().astype("uint8"), x_test, made.y_test.numpy().astype("uint8"))
    return store.write(root, small_source(), arrays)


def small_source():
    real = sources.source("cifar10")
    return real.__class__(**{**real.__dict__, "train": 50, "test": 20})


def damage(path, how):
    whole = bytearray(path.read_bytes())
    if how == "truncated":
        whole = whole[: len(whole) // 2]
    elif how == "empty":
        whole = whole[:0]
    else:
        whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize("how", ["truncated", "empty", "flipped"])
def test_a_damaged_npz_is_never_used(tmp_path, how, monkeypatch):
    path = small_cifar(tmp_path)
    assert len(store.read(tmp_path, small_source()).x_train) == 50
    damage(path, how)
    with pytest.raises(datasets.DataUnavailable, match=r"cifar10.npz is damaged .* data fetch cifar10"):
        store.read(tmp_path, small_source())


@pytest.mark.parametrize("notebook", ["cifar_to_stl", "similarity", "ablations", "nlp"])
def test_a_run_without_data_names_them_at_once(tmp_path, notebook):
    start = time.perf_counter()
    told = command(
        "run", notebook, "--out", tmp_path / "out", cwd=ROOT, env={**os.environ, "ADVTRANSFER_DATA": str(tmp_path)}
    )
    assert told.returncode == 2
    assert told.stderr.startswith(f"error: {notebook} cannot run here:\n")
    assert f"python -m advtransfer data fetch {'imdb' if notebook == 'nlp' else 'cifar10'}" in told.stderr
    assert not (tmp_path / "out").exists()
    assert time.perf_counter() - start < 60


def test_a_run_with_half_of_its_data_or_a_truncated_file_names_that(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path))
    small_cifar(tmp_path)
    known = sources.sources() | {"cifar10": small_source()}
    for module in ("advtransfer.datasets.images", "advtransfer.datasets.presence"):
        monkeypatch.setattr(f"{module}.source", lambda name, kind=None: known[name])
    notebook = read(ROOT / "notebooks" / "cifar_to_stl.md")
    (line,) = notebook.obstacles({"target": "tiny-imagenet-10"})
    assert "tiny-imagenet-10 is not in" in line
    assert notebook.obstacles({}) == []
    damage(tmp_path / "images" / "cifar10.npz", "truncated")
    (line,) = notebook.obstacles({})
    assert "cifar10.npz is damaged" in line
    with pytest.raises(NotebookError, match=r"cifar10\.npz is damaged"):
        execute.run(notebook.path, {}, out=tmp_path / "out", whole=True)


def test_a_broken_file_is_listed_as_broken_and_the_others_are_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path))
    damage(small_cifar(tmp_path), "truncated")
    (tmp_path / "text" / "mr").mkdir(parents=True)
    for split in ("train", "test"):
        (tmp_path / "text" / "mr" / f"{split}.parquet").write_bytes(b"PAR1")
    encoder = tmp_path / "models" / "minilm-l6"
    encoder.mkdir(parents=True)
    for member in sources.source("minilm-l6").members:
        (encoder / member).write_bytes(b"PK")
    assert main(["data", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["data"]}
    assert set(rows) == set(sources.sources())
    here = [rows[name]["here"] for name in ("cifar10", "mr", "minilm-l6", "imdb", "mobilenet-v2")]
    assert here == ["broken", "broken", "broken", "no", "no"]
    assert str(tmp_path / "text" / "mr") in rows["mr"]["origin"]
    assert main(["data", "verify", "--json"]) == 1
    files = json.loads(capsys.readouterr().out)["files"]
    assert any("cifar10.npz" in each["told"] and not each["intact"] for each in files)


# Fetches.


class Slow(BaseHTTPRequestHandler):
    """Serves an archive in small pieces, and counts how often it is asked."""

    body, pause, asked = b"", 0.0, 0

    def do_GET(self):
        type(self).asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        for at in range(0, len(self.body), 1 << 16):
            time.sleep(self.pause)
            self.wfile.write(self.body[at : at + (1 << 16)])

    def log_message(self, *_):
        pass


@pytest.fixture
def archive(tmp_path):
    """A small CIFAR-10 and the server of its archive."""
    import hashlib

    import image_archives

    small_cifar(tmp_path / "made")
    arrays = store.read(tmp_path / "made", small_source())
    body = image_archives.cifar10_binary(tmp_path / "archive.tar.gz", arrays).read_bytes()
    kind = type("Mine", (Slow,), {"body": body, "asked": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    origin = sources.Origin(
        url=f"http://127.0.0.1:{server.server_port}/archive.tar.gz", format="cifar10-binary",
        checksum=f"sha256:{hashlib.sha256(body).hexdigest()}",
    )  # fmt: skip
    wanted = small_source()
    yield wanted.__class__(**{**wanted.__dict__, "origins": (origin,), "members": {}}), kind
    server.shutdown()


def test_two_fetches_at_once_are_one_after_the_other(archive, tmp_path):
    wanted, served = archive
    served.pause = 0.2
    root, told = tmp_path / "root", []
    fetch = partial(fetching.fetch_source, wanted, root, told.append)
    threads = [threading.Thread(target=fetch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert served.asked == 1
    assert sum("waiting for another fetch" in line for line in told) == 2
    assert sum("has been fetched by another process" in line for line in told) == 2
    assert store.is_intact(root, wanted)
    assert sorted(path.name for path in root.iterdir() if not path.name.startswith(".")) == ["SHA256SUMS", "images"]


def test_what_a_killed_fetch_left_is_cleared_by_the_next(archive, tmp_path):
    wanted, _ = archive
    root = tmp_path / "root"
    incoming = root / "downloads" / fetching.INCOMING
    (incoming / ".npm-abc" / "cache").mkdir(parents=True)
    (incoming / ".npm-abc" / "cache" / "big").write_bytes(bytes(1000))
    (incoming / "package.tgz").write_bytes(bytes(1000))
    (incoming / "other.zip.part").write_bytes(b"half of another download")
    (root / "images" / ".writing-cifar10.npz-x").mkdir(parents=True)
    fetching.fetch_source(wanted, root, lambda line: None)
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()) == [
        "SHA256SUMS", f"downloads/{fetching.INCOMING}/other.zip.part", "images/cifar10.npz",
    ]  # fmt: skip


def test_a_corpus_whose_note_was_lost_is_noted_again(tmp_path, monkeypatch):
    mr, fetched = sources.source("mr"), []
    monkeypatch.setattr(fetching, "KINDS", {**fetching.KINDS, "text": fetching.KINDS["text"]._replace(
        is_intact=lambda *_: True, write=lambda *_: fetched.append("written") or tmp_path, tell=str)})  # fmt: skip
    monkeypatch.setattr(fetching, "_from_the_first_that_has_it", lambda *_: fetched.append("asked"))
    fetching.fetch_source(mr, tmp_path, lambda line: None)
    assert fetched == ["asked", "written"]
    (tmp_path / "text" / "INFO.json").write_text(json.dumps({"mr": {"source": "noted"}}))
    fetching.fetch_source(mr, tmp_path, lambda line: None)
    assert fetched == ["asked", "written"]
    fetching.fetch_source(mr, tmp_path, lambda line: None, anew=True)
    assert len(fetched) == 4


# Records and weights.


@pytest.mark.parametrize("how", ["truncated", "empty", "flipped"])
def test_damaged_weights_are_trained_anew_and_told(cache, how):
    make = lambda checkpoint: {"w": torch.arange(4000.0)}  # noqa: E731
    first = partial(weights.cached, {"a": 1}, make, code=("advtransfer.names",))
    first()
    (path,) = cache.rglob("*.safetensors")
    damage(path, how)
    with pytest.warns(UserWarning, match=r"safetensors is damaged .*: training it anew"):
        assert first()["w"].equal(torch.arange(4000.0))
    assert weights.cached({"a": 1}, lambda _: pytest.fail("trained"), code=("advtransfer.names",))["w"].sum() > 0


def test_a_damaged_record_is_computed_anew_and_told_on_the_terminal(trial, cache):
    execute.run(trial, whole=True)
    (record,) = (cache / "records").rglob("record.json")
    damage(record.parent / "tables" / "rows.csv", "truncated")
    Path("notebooks/trials.ipynb").unlink()
    told = command("run", "trials")
    assert told.returncode == 0
    assert f"note: broken record {record.parent}: " in told.stderr
    assert "a run computes it anew" in told.stderr
    assert "a run computes it anew" not in Path("notebooks/trials.ipynb").read_text()
    record.write_text("{")
    listed = command("list", "trials")
    assert listed.returncode == 0
    assert f"broken record {record.parent}" in listed.stdout
    record.write_text('{"config": {}, "provenance": {"module": 3}}')
    assert f"broken record {record.parent}" in command("list", "trials").stdout


def test_a_damaged_record_beside_a_notebook_is_neither_kept_nor_copied(trial, cache):
    execute.run(trial, whole=True)
    beside = Path("notebooks/trials.record")
    for folder in (beside, *(path.parent for path in (cache / "records").rglob("record.json"))):
        damage(folder / "tables" / "rows.csv", "truncated")
    assert command("run", "trials").returncode == 0
    assert Record.load(beside).tables["rows"].shape[0] > 0


@pytest.mark.parametrize("file", ["record.json", "tables/rows.csv"])
def test_a_sweep_over_a_broken_record_names_it_and_computes_it_anew(trial, cache, file):
    words = ["sweep", "trials", "--grid", "seed=0:3", "--out", "sweep", "--workers", "1", "--json"]
    first = json.loads(command(*words).stdout)
    assert (first["runs"], first["found"], first["computed"]) == (3, 0, 3)
    rows = Path("sweep/trials-sweep-runs.csv").read_text()
    broken = sorted((cache / "records").rglob("record.json"))[1].parent / file
    damage(broken, "truncated")
    told = command(*words)
    assert told.returncode == 0, told.stderr
    assert "a run computes it anew" in told.stderr
    assert (json.loads(told.stdout)["found"], json.loads(told.stdout)["computed"]) == (2, 1)
    assert Path("sweep/trials-sweep-runs.csv").read_text() == rows


# Kills and stops.


def test_a_killed_publication_leaves_the_old_record_or_the_new(tmp_path, monkeypatch):
    old = published("vision")["full-seed0"]
    results = tmp_path / "results"
    shutil.copytree(ROOT / "data" / "results" / "vision" / "full-seed0", results / "vision" / "full-seed0")
    code = f"""
        import os, signal
        from pathlib import Path
        from advtransfer.records import published
        from advtransfer.records.record import Record
        results = Path({str(results)!r})
        record = Record.load(results / "vision" / "full-seed0")
        Path.write_text = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # after the tables and the arrays
        published.publish(record, "full-seed0", samples=20, results=results)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert left(results)
    there = published("vision", results)
    assert list(there) == ["full-seed0"]
    assert there["full-seed0"].digest == old.digest
    from advtransfer.records.published import publish

    publish(old, "full-seed0", samples=20, results=results)
    assert not left(results)
    assert published("vision", results)["full-seed0"].arrays["index"].shape == (20,)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize(
    "words",
    [
        ["run", "trials"],
        ["sweep", "trials", "--grid", "seed=0:4", "--workers", "2"],
        ["run", "--all", "--workers", "2"],
    ],
    ids=["run", "sweep", "all"],
)
def test_what_is_stopped_leaves_soon_and_nothing_half_written(trial, toys, cache, words, stop):
    for name, seed in ("trials", 0), ("others", 1):
        trials.variant(trial, name, seed=seed, seconds=600)
    process = subprocess.Popen([*ADVTRANSFER, *words], start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        trials.until(lambda: len(trials.log(toys, "start")) == (2 if "--workers" in words else 1), 300)
        os.killpg(process.pid, stop) if stop == signal.SIGINT else process.kill()
        assert process.wait(30) == (130 if stop == signal.SIGINT else -signal.SIGKILL)
        if stop == signal.SIGINT:
            assert process.stderr.read().strip().endswith("stopped")
        trials.until(lambda: not trials.running(cache), 60)
    finally:
        for each in trials.running(cache):
            os.kill(each, signal.SIGKILL)
    assert not list(Path("notebooks").glob("*.ipynb"))
    assert not list((cache / "records").rglob("record.json"))


def test_of_all_notebooks_one_that_fails_stops_no_other_and_no_run_is_computed_twice(trial, toys):
    for name, defaults in ("twin", {}), ("fails", {"mood": "fails"}):
        trials.variant(trial, name, **defaults)
    told = command("run", "--all", "--workers", "2")
    assert told.returncode == 1
    assert "error: notebooks/fails.md failed: " in told.stderr
    assert "seed 0 is in no mood" in told.stderr
    assert {line.partition(":")[0] for line in told.stdout.splitlines()} == {"notebooks/trials.md", "notebooks/twin.md"}
    assert trials.log(toys, "end") == ["0 0.5 well"]


def test_of_all_notebooks_the_one_whose_process_is_killed_is_named_and_no_other_fails(trial):
    trials.variant(trial, "kills", mood="kills")
    trials.variant(trial, "slow", seconds=5, seed=1)
    told = command("run", "--all", "--workers", "2")
    assert told.returncode == 1
    (line,) = (line for line in told.stderr.splitlines() if line.startswith("error: "))
    assert line == "error: notebooks/kills.md failed: a process was killed; is there enough memory?"
    assert {line.partition(":")[0] for line in told.stdout.splitlines()} == {"notebooks/trials.md", "notebooks/slow.md"}


# Disks and places.


def test_a_full_disk_is_told_with_the_path_and_leaves_nothing(trial, disk):
    (disk / "fill").write_bytes(bytes(95_000))
    told = command("run", "trials", "--out", disk / "out")
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1
    assert told.stderr.startswith("error: ")
    assert "No space left on device" in told.stderr
    assert str(disk / "out") in told.stderr
    assert not left(disk)


def test_a_read_only_filled_cache_serves_what_it_has(trial, disk, monkeypatch):
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(disk))
    sweep = ["sweep", "trials", "--grid", "seed=0:2", "--workers", "1", "--out"]
    assert command(*sweep, "one").returncode == 0
    read_only(disk)
    for words in (["run", "trials", "--out", "a"], ["run", "trials", "-p", "seed=0", "--out", "b"], [*sweep, "two"]):
        told = command(*words)
        assert told.returncode == 0, told.stderr
    assert Path("one/trials-sweep.csv").read_text() == Path("two/trials-sweep.csv").read_text()
    for words in (
        ["run", "trials", "-p", "seed=5", "--out", "c"],
        ["sweep", "trials", "--grid", "seed=5", "--out", "d"],
    ):
        told = command(*words)
        assert told.returncode == 2
        assert f"cannot write to {disk}" in told.stderr
        assert "ADVTRANSFER_CACHE" in told.stderr
        assert told.stderr.count("\n") == 1


def test_a_read_only_data_root_is_read_and_a_fetch_into_it_refused(disk, monkeypatch, capsys):
    monkeypatch.setenv("ADVTRANSFER_DATA", str(disk))
    (disk / "text").mkdir()
    read_only(disk)
    assert main(["data", "list"]) == 0
    assert main(["data", "fetch", "mr"]) == 1
    assert f"cannot write to {disk}" in capsys.readouterr().err


@pytest.mark.parametrize("locale", [{"LANG": "C", "LC_ALL": "C"}, {"PYTHONIOENCODING": "cp1252"}], ids=["C", "cp1252"])
def test_odd_places_and_terminals_are_no_trouble(trial, toys, tmp_path, locale):
    home = tmp_path / "Ein Zuhause für Ünïcödé, 家"
    clone = home / "my clone"
    clone.mkdir(parents=True)
    shutil.move(trial.parent, clone / "notebooks")
    shutil.move(toys, clone / "toys")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ADVTRANSFER") and k != "XDG_CACHE_HOME"}
    environment |= {"HOME": str(home), "PYTHONPATH": str(clone), **locale}
    call = partial(subprocess.run, cwd=clone, env=environment, capture_output=True)
    made = "notebooks/trials.ipynb"
    for words in (["run", "trials", "-p", "seed=3"], ["run", "trials", "-h"], ["show", made], ["verify", made],
                  ["list"], ["list", "trials"], ["data", "list"]):  # fmt: skip
        told = call([*ADVTRANSFER, *words])
        assert told.returncode == 0, told.stderr
        assert told.stdout
    assert (home / ".cache" / "advtransfer").is_dir()


def test_from_another_folder_one_rule_holds(trial, tmp_path, monkeypatch, capsys):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for words in (
        ["list"],
        ["run", "--all"],
        ["run", "trials"],
        ["list", "trials"],
        ["sweep", "trials", "--grid", "seed=1"],
    ):
        assert main(words) == 2
        assert "there is no folder" in capsys.readouterr().err
    assert main(["run", str(trial), "--out", "here"]) == 0
    assert (elsewhere / "here" / "trials.ipynb").is_file()


def test_a_clock_that_goes_back_changes_nothing(trial, cache):
    assert execute.run(trial).executed
    future = time.time() + 10**6
    for path in [*cache.rglob("*"), *trial.parent.iterdir()]:
        os.utime(path, (future, future))
    assert not execute.run(trial).executed
    assert "seconds" in command("list", "trials").stdout


@pytest.mark.parametrize("held", ["", "3", "[]", '{"files": {}}', '{"files": 1}'])
def test_a_damaged_memo_is_made_again(trial, cache, held):
    execute.run(trial)
    (memo,) = (cache / "resolved").iterdir()
    memo.write_text(held)
    assert not execute.run(trial).executed
    assert json.loads(memo.read_text())["record"]


def test_an_executed_notebook_that_is_named_means_its_source(trial):
    told = command("run", "notebooks/trials.ipynb")
    assert told.returncode == 0
    assert "note: notebooks/trials.ipynb is an executed notebook; its source is notebooks/trials.md" in told.stderr


def test_an_executed_run_with_parameters_means_its_source_too(trial):
    path = execute.run(trial, {"seed": 1}, out=Path("out")).path
    shutil.copyfile(execute.run(trial, {"seed": 2}).path, trial.parent / "trials-seed-2.ipynb")
    assert find.named("notebooks/trials-seed-2.ipynb") == Path("notebooks/trials.md")
    told = command("run", str(path))
    assert "unknown notebook 'trials'" in told.stderr
    assert "executed notebook" not in told.stderr


@pytest.mark.parametrize("words", [["-pseed=1"], ["-p=seed=1"], ["-pseed", "1"]])
def test_a_parameter_may_be_attached_to_its_option(trial, words):
    assert parameters.split(["run", "trials", *words, "--out", "y"]) == (
        ["run", "trials", "--out", "y"],
        [("seed", "1")],
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "trials", "-p", "profile=smoke", "--profile", "paper"], "profile is smoke and paper"),
        (["run", "--seed", "1", "trials"], "'1' is taken for the notebook, which comes before --NAME VALUE"),
        (["sweep", "trials", "--grid", "seed=0:99999999999999999999"], "has too many values"),
        (["run", "trials", "-p", f"eps=1{'0' * 400}/1"], "a number or a fraction such as 4/255"),
    ],
)
def test_odd_words_are_told_in_words(trial, words, told, capsys):
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_a_byte_order_mark_is_no_part_of_a_notebook(trial):
    trial.write_text(trial.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert read(trial).experiment == "toys.trial"


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"---\njupytext: [\n---\n", b"", b"# Only text", b"---\na: 1\n---\n"]
)
def test_a_file_that_is_no_notebook_is_told_in_one_line(trial, content):
    trial.write_bytes(content)
    told = command("run", "trials")
    assert (told.returncode, told.stderr.count("\n")) == (2, 1)
    assert str(Path("notebooks/trials.md")) in told.stderr


def test_a_name_that_cannot_be_published_is_refused_before_anything_is_computed(trial, toys):
    assert main(["publish", "trials", "--name", "a/b"]) == 2
    assert not trials.log(toys, "start")
    config = {"seed": 3, "epochs": 24}
    check_place("trained-seed3", "vision", config)
    for name, told in {
        "2nd-seed3": "expected a letter, then letters",
        "mine": "expected NAME-seed3",
        "mine-seed0": "'mine-seed0' for a run with seed 3",
    }.items():
        with pytest.raises(ValueError, match=told):
            check_place(name, "vision", config)
    with pytest.raises(ValueError, match="is published with epochs = 24, and this run has epochs = 1"):
        check_place("trained-seed3", "vision", {"seed": 3, "epochs": 1})
    stored = published("vision")["trained-seed0"].config
    check_place("trained-seed0", "vision", stored)
    with pytest.raises(ValueError, match="trained-seed0 is published with profile = paper"):
        check_place("trained-seed0", "vision", {**stored, "profile": "smoke"})


def test_no_stays_no_when_nobody_reads_on(trial):
    execute.run(trial)
    execute.run(trial, {"seed": 1}, out=Path("other"))
    runs = ["notebooks/trials.ipynb", next(map(str, Path("other").glob("*.ipynb")))]
    with subprocess.Popen([*ADVTRANSFER, "diff", *runs], stdout=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.wait() == 1


def test_of_two_keys_that_begin_alike_either_can_be_named(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path))
    for key in ("abcd1", "abcd2"):
        (tmp_path / "records" / "trial" / "ab" / key).mkdir(parents=True)
    with pytest.raises(ValueError, match="'abcd' may be abcd1, abcd2; expected one of them"):
        records_find("abcd")
    assert records_find("abcd1").name == "abcd1"


def test_verify_tells_no_from_cannot(trial):
    folder = place("trial", read(trial).resolve({}).record.name)
    execute.run(trial)
    record = Record.load(folder)
    changed = record.tables["rows"].assign(value=record.tables["rows"]["value"] + 1)
    Record(record.experiment, record.config, {**record.tables, "rows": changed}, record.arrays, record.provenance).save(
        Path("wrong")
    )
    assert command("verify", "wrong").returncode == 1
    assert json.loads(command("verify", "wrong", "--json").stdout)["verified"] is False
    arrays = {name: array + 1 for name, array in record.arrays.items()}
    Record(record.experiment, record.config, record.tables, arrays, record.provenance).save(Path("other"))
    assert "the tables agree, but the arrays do not" in command("verify", "other").stdout
    damage(Path("wrong/arrays.npz"), "truncated")
    told = command("verify", "wrong")
    assert (told.returncode, told.stderr.count("\n")) == (2, 1)
    for text in ("{}", "[]", "", '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'):
        Path("x.ipynb").write_text(text)
        told = command("show", "x.ipynb")
        assert (told.returncode, told.stderr.count("\n")) == (2, 1)
        assert "x.ipynb was not executed by `advtransfer run`" in told.stderr
