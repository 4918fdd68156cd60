"""Records: bit-exact, never half-written, computed once."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advtransfer.commands.main import main
from advtransfer.records import compare
from advtransfer.records.configs import ConfigError
from advtransfer.records.published import RESULTS, publish, published, rederived
from advtransfer.records.record import Record, RecordError

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
ROWS = st.lists(st.tuples(TEXT, st.floats(), st.booleans(), st.integers(-(2**63), 2**63 - 1)))


def record(rows: list = (), arrays: dict | None = None) -> Record:
    table = pd.DataFrame(list(rows), columns=["text", "float", "bool", "int"]).astype(
        {"text": "str", "float": "float64", "bool": "bool", "int": "int64"}
    )
    return Record("echo", {"eps": 0.1}, {"table": table}, arrays or {}, {"seconds": 1.0})


@given(rows=ROWS)
@settings(max_examples=100, deadline=None)
def test_tables_survive_to_the_last_bit(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("records") / "record"
    before = record(rows)
    before.save(path)
    after = Record.load(path)  # load compares the digests
    pd.testing.assert_frame_equal(after.tables["table"], before.tables["table"], check_exact=True)


def test_arrays_survive_and_count_in_the_digest(tmp_path):
    arrays = {"a": np.random.default_rng(0).normal(size=(3, 4)).astype("float32"), "b": np.array([], dtype="int8")}
    before = record(arrays=arrays)
    before.save(tmp_path / "r")
    after = Record.load(tmp_path / "r")
    for name, array in arrays.items():
        assert after.arrays[name].dtype == array.dtype
        assert after.arrays[name].tobytes() == array.tobytes()
    arrays["a"] = np.nextafter(arrays["a"], np.float32(9))
    assert record(arrays=arrays).digest != before.digest
    assert Record("echo", {"eps": 0.2}, {}, {}, {}).digest != Record("echo", {"eps": 0.1}, {}, {}, {}).digest
    assert Record("echo", {}, {}, {}, {"seconds": 1}).digest == Record("echo", {}, {}, {}, {"seconds": 2}).digest


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"a": [1]}, index=["x"]), "reset_index"),
        (pd.DataFrame({0: [1]}), "expected different names of type str"),
        (pd.DataFrame({"a": ["x", None]}), "without missing values"),
        (pd.DataFrame({"": [1]}), "expected each with a name"),
        (pd.DataFrame({"a": np.array([2**63], np.uint64)}), "column 'a': uint64; expected bool, int, float or str"),
    ],
)
def test_what_a_table_cannot_keep_is_refused(table, message):
    with pytest.raises(TypeError, match=message):
        Record("echo", {}, {"table": table}, {}, {})


def test_a_table_without_columns_survives(tmp_path):
    record = Record("echo", {}, {"nothing": pd.DataFrame()}, {}, {})
    record.save(tmp_path / "r")
    assert Record.load(tmp_path / "r").digest == record.digest


def test_an_array_that_numpy_cannot_name_is_refused():
    with pytest.raises(TypeError, match="an array is named 'file'"):
        Record("echo", {}, {}, {"file": np.ones(2)}, {})


def damage_value(path: Path):
    file = path / "tables" / "table.csv"
    file.write_text(file.read_text().replace("0.25", "0.26"))


def damage_head(path: Path):
    head = json.loads((path / "record.json").read_text())
    (path / "record.json").write_text(json.dumps(head | {"config": {"eps": 0.2}}))


@pytest.mark.parametrize(
    "damage",
    [
        damage_value,
        damage_head,
        lambda path: (path / "record.json").write_text("{"),
        lambda path: (path / "record.json").write_text("[]"),
        lambda path: (path / "record.json").write_text(
            json.dumps(json.loads((path / "record.json").read_text()) | {"provenance": []})
        ),
        lambda path: (path / "tables" / "table.csv").unlink(),
        lambda path: (path / "arrays.npz").write_bytes((path / "arrays.npz").read_bytes()[:-30]),
        lambda path: np.savez(path / "arrays.npz", a=np.array([{}], dtype=object)),
    ],
)
def test_a_broken_record_is_named_in_one_line(tmp_path, damage):
    path = tmp_path / "r"
    record([("x", 0.25, True, 1)], {"a": np.zeros(3)}).save(path)
    damage(path)
    with pytest.raises(RecordError, match=f"broken record {path}: .*; expected the folder as it was written") as caught:
        Record.load(path)
    assert "\n" not in str(caught.value)


def test_killed_while_saving_the_old_record_or_a_new_one_is_there(tmp_path):
    """Three times: a process that saves records without end is killed, and what it left is whole."""
    script = (
        "import sys, itertools, numpy as np\nfrom pathlib import Path\nfrom advtransfer.records.record import Record\n"
        "for i in itertools.count():\n"
        "    Record('echo', {'i': i}, {}, {'a': np.full(10**5, i)}, {}).save(Path(sys.argv[1]) / str(i % 2))\n"
        "    print(i, flush=True)\n"
    )
    for round_ in range(3):
        folder = tmp_path / str(round_)
        process = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        time.sleep(0.013 * (round_ + 1))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        left = [path for path in folder.iterdir() if not path.name.startswith(".writing-")]
        assert {path.name for path in left} <= {"0", "1"}
        saved = {path.name: Record.load(path) for path in left}  # each is whole
        assert all(record.config["i"] % 2 == int(name) for name, record in saved.items())
        assert all((record.arrays["a"] == record.config["i"]).all() for record in saved.values())
        assert saved


def test_an_experiment_is_computed_once(toys, cache, monkeypatch):
    from toys import echo

    config = echo.Config.from_profile("quick", eps="4/255")
    first, again = echo.run(config), echo.run(config)
    assert len(echo.calls) == 1
    assert first.digest == again.digest == echo.run(config, cache=False).digest
    assert len(echo.calls) == 2
    assert {"seconds", "peak_memory", "source", "inputs", "threads", "packages"} <= set(again.provenance)

    echo.run(echo.Config.from_profile("quick", eps="4/255", seed=1))
    assert len(echo.calls) == 3
    data = Path(os.environ["ADVTRANSFER_DATA"])
    data.mkdir()
    (data / "numbers.txt").write_text("123")
    assert echo.run(config).provenance["inputs"] == {"numbers": hashlib.sha256(b"123").hexdigest()}
    assert len(echo.calls) == 4

    for head in cache.glob("records/echo/*/*/record.json"):
        head.write_text("{")
    with pytest.warns(UserWarning, match="broken record .*; a run computes it anew"):
        assert echo.run(config).digest == first.digest


def test_an_unwritable_cache_is_told_before_computing(toys, tmp_path, monkeypatch):
    from toys import echo

    calls = len(echo.calls)
    (tmp_path / "file").touch()
    monkeypatch.setenv("ADVTRANSFER_CACHE", str(tmp_path / "file"))
    with pytest.raises(PermissionError, match="ADVTRANSFER_CACHE"):
        echo.run(echo.Config(seed=77))
    assert len(echo.calls) == calls


def test_published_records_come_in_the_order_of_their_names(tmp_path):
    for name, eps in [("b", 2), ("a", 1)]:
        Record("echo", {"eps": eps}, {}, {}, {}).save(tmp_path / "echo" / name)
    found = published("echo", tmp_path)
    assert list(found) == ["a", "b"]
    assert [record.config["eps"] for record in found.values()] == [1, 2]
    assert published("nothing", tmp_path) == {}


def test_what_has_no_per_sample_data_cannot_be_published(toys, tmp_path):
    from toys import echo

    with pytest.raises(RecordError, match=r"runs of the experiment echo keep no samples .* of an experiment on images"):
        publish(echo.run(echo.Config()), "echo-seed0", results=tmp_path / "results")
    with pytest.raises(ValueError, match=r"name is '\.\./x'; expected a letter"):
        publish(echo.run(echo.Config()), "../x", results=tmp_path / "results")
    assert not (tmp_path / "results").exists()
    with pytest.raises(RecordError, match="does not say which module made it"):
        compare.verify(Record("echo", {}, {}, {}, {}))


PUBLISHED = sorted(RESULTS.glob("*/*/record.json"))


@pytest.mark.parametrize("head", PUBLISHED, ids=lambda head: "/".join(head.parts[-3:-1]))
def test_every_published_table_follows_from_its_samples(head):
    record = Record.load(head.parent)
    verdict = compare.verify_tables(record)  # fails if the config no longer parses
    assert verdict.holds, verdict.against
    assert max(file.stat().st_size for file in head.parent.rglob("*") if file.is_file()) < 2**20
    assert {"seconds", "device", "inputs", "source", "advtransfer"} <= record.provenance.keys()


def test_a_published_table_that_was_touched_up_is_found_out(tmp_path):
    if not PUBLISHED:
        pytest.skip("nothing is published")
    record = Record.load(PUBLISHED[0].parent)
    name, table = next((n, t) for n, t in record.tables.items() if "alpha1" in t)
    better = Record(
        record.experiment, record.config, {**record.tables, name: table.assign(alpha1=table["alpha1"] + 0.01)},
        record.arrays, record.provenance,
    )  # fmt: skip
    better.save(tmp_path / "touched")
    against = compare.verify_tables(Record.load(tmp_path / "touched")).against
    assert len(against) == len(table)
    assert set(zip(against["table"], against["column"], strict=True)) == {(name, "alpha1")}
    assert (against["first"] - against["second"]).to_numpy(float) == pytest.approx(0.01)
    less = {kept: each for kept, each in record.tables.items() if kept != name}
    assert [*compare.verify_tables(replace(record, tables=less)).against["table"]] == [name]
    assert main(["verify", str(tmp_path / "touched"), "--tables"]) == 1
    assert main(["verify", str(PUBLISHED[0].parent), "--tables"]) == 0
    old = Record(record.experiment, {**record.config, "gone": 1}, record.tables, record.arrays, record.provenance)
    with pytest.raises(ConfigError, match="unknown parameter 'gone'"):
        rederived(old)
