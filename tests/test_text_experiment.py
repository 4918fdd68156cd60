"""The text experiment at smoke size: what follows from what, what it counts and what it refuses."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig

from advtransfer import metrics
from advtransfer.datasets import DataUnavailable
from advtransfer.datasets.parsing import Tree
from advtransfer.experiments import evaluation, printed, text, text_protocol, text_sentences
from advtransfer.experiments.text import Config
from advtransfer.notebooks.read import read
from advtransfer.records import published, runs
from advtransfer.records.configs import ConfigError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A record, and the folder of its cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVTRANSFER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield text.run(Config.from_profile("smoke"))


def test_the_tables_follow_from_the_arrays_and_the_record_from_the_config(made, tmp_path):
    config = Config(**made.config)
    for name, table in published.rederived(made).items():
        assert table.equals(made.tables[name]), name
    published.publish(made, "minilm-seed0", samples=12, results=tmp_path)
    (thin,) = published.published("text", tmp_path).values()
    assert thin.arrays["word_deviations"].shape[2] == 12
    assert set(published.rederived(thin)) == set(made.tables)
    assert text.run(config, cache=False).digest == made.digest


def test_the_models_have_learnt_and_are_attacked_as_the_tables_say(made):
    models, attacks = made.tables["models"], made.tables["attacks"]
    assert set(attacks["view"]) == {"word"}  # the attack on sentences has to be asked for
    assert models["accuracy"][0] > models["majority"][0] + 0.2
    assert (attacks["flipped"] > 0.5).any()
    assert (attacks["changed"] > 0).all()
    assert made.arrays["word_roundtrip"].all()  # every attacked text is read as the tokens that were attacked
    changed = [line.count("<mark>") for line in made.tables["examples"]["after"]]
    every = made.arrays["word_changed"][0]
    spread = np.linspace(0, len(every) - 1, len(changed)).round().astype(int)
    assert changed == every[spread].tolist()  # no word of many pieces in this vocabulary


def test_rows_are_those_of_the_metrics(made):
    arrays, sources = made.arrays, made.tables["sources"]
    for view in sources["view"].unique():
        kept = torch.from_numpy(arrays[f"{view}_deviations"]).double()
        for direction, (i, j) in {"T→S": (0, 2), "S→T": (2, 0)}.items():
            found = metrics.from_deviations(kept[i, i], kept[i, j], kept[j, j])
            rows = sources[(sources["view"] == view) & (sources["direction"] == direction)]
            row = rows.set_index("source").loc["yelp"]
            assert row.alpha1 == pytest.approx(found.alpha1, rel=1e-12)
            assert row.alpha2_unbiased == pytest.approx(found.alpha2_unbiased, rel=1e-12, abs=1e-12)
    confidence = np.exp(-arrays["transfer_loss"].astype(float))[1][arrays["index"]]
    alpha1 = evaluation.alpha1({"deviations": arrays["word_deviations"]}, 0, 2)
    pearson = made.tables["samples"].query("view == 'word' and direction == 'T→S' and source == 'yelp'")["r"].iloc[0]
    assert pearson == pytest.approx(np.corrcoef(alpha1, confidence)[0, 1])


def test_the_deviations_are_those_of_the_models_read_again(made, monkeypatch):
    """The embedding attack by hand, in one pass, on a trained pair."""
    config = Config(**made.config)
    spoken = text_protocol.language(config)
    names = ("imdb", "mr")
    data = [text_protocol.corpus(config, name) for name in names]
    read = [text_protocol.read(config, spoken, each) for each in data]
    target, source = (text_protocol.trained(config, spoken, d, r) for d, r in zip(data, read, strict=True))
    tokens = read[0].test.take(torch.from_numpy(made.arrays["index"]))
    words = target.embed(tokens.ids)
    delta = torch.zeros_like(words)
    label = target(words, tokens.mask).argmax(1)
    for _ in range(config.embedding_steps):
        moved = (words + delta).detach().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(target(moved, tokens.mask), label, reduction="sum"), moved)
        step = 2.5 * config.eps / config.embedding_steps * grad / grad.flatten(1).norm(dim=1)[:, None, None]
        delta = delta + step
        delta = delta * (config.eps / delta.flatten(1).norm(dim=1).clamp_min(1e-12)).clamp(max=1)[:, None, None]
    own = source.embed(tokens.ids)
    expected = source(own + delta, tokens.mask) - source(own, tokens.mask)
    found = torch.from_numpy(made.arrays["embedding_deviations"][0, 1, :, :2]).float()
    torch.testing.assert_close(found, expected.detach(), rtol=2e-3, atol=2e-3)  # kept in half precision


def test_the_floor_is_one_over_n_for_unrelated_directions():
    generator = torch.Generator().manual_seed(0)
    d = torch.randn(2, 2, 400, 3, generator=generator, dtype=torch.float64).numpy()
    assert text.shuffled({"deviations": d}, 0, 1) == pytest.approx(1 / 400, rel=0.5)
    same = np.ones((2, 2, 400, 3))
    assert text.shuffled({"deviations": same}, 0, 1) == pytest.approx(1)


def test_what_stops_a_run_is_said_before_it_starts(tmp_path, monkeypatch):
    def lacking(texts):
        raise ImportError("parsing needs spaCy")

    monkeypatch.setattr(text, "parse", lacking)
    notebook = read(ROOT / "notebooks" / "nlp.md")
    assert notebook.obstacles({"profile": "smoke"}) == []
    assert notebook.obstacles({"profile": "smoke", "sentence_steps": 1}) == ["parsing needs spaCy"]
    (line,) = text.unusable(Config(encoder="no/such-encoder"))
    assert line.startswith("encoder is 'no/such-encoder'; expected minilm-l6, tiny, the folder of a BERT")
    (line,) = text.unusable(Config(encoder=str(tmp_path)))
    assert line == f"{tmp_path} holds no BERT: the model_type of its config.json is missing, expected bert"
    BertConfig(max_position_embeddings=64).save_pretrained(tmp_path)
    (line,) = text.unusable(Config(encoder=str(tmp_path), max_length=65))
    assert line.startswith("a text may have 65 tokens (max_length); expected at most 64, the positions of the encoder")


def test_without_its_corpora_it_says_what_to_fetch_and_which_sources_are_there(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVTRANSFER_DATA", str(tmp_path))
    config = Config.from_profile("quick")
    assert text_protocol.present(config) == ()
    assert text_protocol.needed(config) == ["mr", "yelp", "ag", "fake", "imdb", "minilm-l6"]
    assert set(runs.address(text, config)[0]["inputs"].values()) == {"missing"}
    with pytest.raises(DataUnavailable, match="data fetch minilm-l6"):
        text.run(config)
    (tmp_path / "text" / "ag").mkdir(parents=True)
    assert text_protocol.present(config) == ("ag", "ag-two")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sources": "mr, mr"}, "expected each once"),
        ({"sources": "imbd"}, "sources: .* expected 'mr', 'yelp'"),
        ({"max_length": "600"}, "max_length: .* less than or equal to 512"),
        ({"encoder": "/no/such/folder"}, "encoder: got '/no/such/folder'; expected a folder that is there"),
        ({"encoder": "./gone"}, "encoder: got './gone'; expected a folder that is there"),
        ({"samples": "5"}, "samples: .* greater than or equal to 10"),
    ],
)
def test_wrong_parameters_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message) as refused:
        Config.from_profile("smoke", **wrong)
    assert "\n" not in str(refused.value)


def test_what_is_missing_is_told_before_anything_is_trained(cache, monkeypatch):
    def missing(texts):
        raise ImportError("parsing needs spaCy")

    monkeypatch.setattr(text, "parse", missing)
    with pytest.raises(ImportError, match="needs spaCy"):
        text.run(Config.from_profile("smoke", sentence_steps=1))
    monkeypatch.setenv("ADVTRANSFER_DATA", str(cache / "nothing"))
    with pytest.raises(ValueError, match=r"encoder is 'bert-base-uncased'; .* hf download bert-base-uncased"):
        text.run(Config.from_profile("paper", sentence_steps=0))
    assert not list(cache.glob("weights/*"))


@pytest.mark.parametrize("kept", ["model.safetensors", "pytorch_model.bin"])
def test_a_checkpoint_of_a_hub_is_found_by_name_once_it_was_downloaded(kept, tmp_path, monkeypatch):
    """The layout of the hub's cache, made by hand; a revision picks among versions."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--bert"
    for revision, content in (("a" * 40, b"first"), ("b" * 40, b"second")):
        (repository / "snapshots" / revision).mkdir(parents=True)
        (repository / "snapshots" / revision / kept).write_bytes(content)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("b" * 40)

    def content(name):
        return runs.address(text, Config.from_profile("smoke", encoder=name))[0]["inputs"]["encoder"]

    assert content("owner/bert") == hashlib.sha256(b"second").hexdigest()
    assert content(f"owner/bert@{'a' * 40}") == hashlib.sha256(b"first").hexdigest()
    assert content("owner/other") == content("no name") == "missing"


def test_the_printed_tables():
    for table, best in ((printed.table(2), "MR"), (printed.table(4), "Yelp")):
        assert list(table["label"]) == ["MR", "Yelp", "AG", "Fake"]
        assert table.set_index("label")["alpha1"].idxmax() == best


def test_the_attack_on_sentences_is_measured_from_what_the_autoencoder_writes(cache, monkeypatch):
    """With a parser of its own, in which each word hangs on the one before: spaCy is not asked for."""

    def chain(texts, max_words=None):
        lines = [text.split()[:max_words] for text in texts]
        return [Tree(tuple(w), ("ROOT", *["next"] * (len(w) - 1)), tuple(range(-1, len(w) - 1))) for w in lines]

    for module in (text, text_sentences):  # a run asks for the parser before it starts
        monkeypatch.setattr(module, "parse", chain)
    sizes = {"sentence_samples": 12, "sentence_words": 6, "sentence_pieces": 100, "sentence_vocabulary": 30}
    given = {"sentence_steps": 3, "sentence_epochs": 2, "sources": "mr", "train_texts": 100, **sizes}
    config = Config.from_profile("smoke", **given)
    record = text.run(config, cache=False)
    found, n = record.tables["attacks"].query("view == 'sentence'"), 12
    index = record.arrays["index"]
    spread = np.linspace(0, len(index) - 1, n).round().astype(int)  # data may be sorted by class
    assert record.arrays["sentence_index"].tolist() == index[spread].tolist()
    assert set(found["n"]) == {n}
    read, back, attacked = record.arrays["sentence_examples"][0]
    assert len(read.split()) == len(back.split()) == len(attacked.split()) == 6
    assert list(found["corpus"]) == ["imdb", "mr"]
    assert ((found["changed"] >= 0) & (found["changed"] <= 6)).all()
    assert record.arrays["sentence_deviations"].shape == (2, 2, n, 2)
    assert set(record.tables["sources"]["view"]) == set(text.VIEWS)
    assert text.run(config, cache=False).digest == record.digest
