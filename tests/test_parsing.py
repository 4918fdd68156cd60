"""Trees of texts: vocabularies, sentences joined to one tree, and spaCy where it is installed."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advtransfer.datasets import parsing
from advtransfer.datasets.parsing import NEXT_SENTENCE, Tree, Vocabulary, join_sentences, number, parse, whole_words

words = st.lists(st.sampled_from(["a", "B", "b", "cat", "Cat", "dog", "x"]), max_size=30)


@given(words=words, size=st.integers(1, 8))
def test_a_vocabulary_holds_the_most_frequent_words(words, size):
    lower = [word.lower() for word in words]
    vocabulary = Vocabulary.of(words, size=size)
    assert len(vocabulary) == min(size, 1 + len(set(lower)))
    known = vocabulary.words[1:]
    least = min(map(lower.count, known), default=0)
    assert all(word in known or lower.count(word) <= least or not known for word in lower)
    assert list(known) == sorted(known, key=lambda word: (-lower.count(word), word))
    back = [vocabulary.words[n] for n in vocabulary.encode(words)]
    assert back == [word if word in known else "[UNK]" for word in lower]


def test_a_vocabulary_keeps_to_what_is_allowed():
    pieces = {"[CLS]": 0, "[": 1, "]": 2, "dog": 3, "##s": 4, "Cat": 5, "-": 6, "[UNK]": 7}
    assert whole_words(pieces) == {"[", "]", "dog", "-"}
    assert Vocabulary.of(["dogs", "dog", "[", "##s", "cat", "[CLS]"], allowed=whole_words(pieces)).words == (
        "[UNK]",
        "[",
        "dog",
    )


def test_bad_vocabularies_are_refused():
    with pytest.raises(ValueError, match="'cat' is there twice; expected each once"):
        Vocabulary(["dog", "cat", "cat"])
    with pytest.raises(ValueError, match="size is 0; expected at least 1"):
        Vocabulary.of(["cat"], size=0)


def test_sentences_hang_on_one_another():
    heads = [1, 1, 1, 4, 4, 5, 5]  # roots 1, 4 and 5
    tree = join_sentences(list("abcdefg"), ["x", "ROOT", "x", "y", "ROOT", "ROOT", "y"], heads)
    assert tree.heads == (1, -1, 1, 4, 1, 4, 5)
    assert tree.relations == ("x", "ROOT", "x", "y", NEXT_SENTENCE, NEXT_SENTENCE, "y")
    ids = number([tree], Vocabulary(["a", "c"]), Vocabulary.of(tree.relations))
    assert ids[0][0] == [1, 0, 2, 0, 0, 0, 0]
    assert ids[0][2] == tree.heads


@pytest.mark.parametrize("absent", ["spacy", "a pipeline that nobody has"])
def test_without_spacy_the_error_gives_the_command(monkeypatch, absent):
    if absent == "spacy":
        monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ImportError, match=r"install (it|them) with: python -m pip install .*\[sentences\]"):
        parse(["A cat sleeps."], pipeline=parsing.PIPELINE if absent == "spacy" else "nobody_has_this")


@pytest.mark.parametrize(
    ("texts", "options", "error", "message"),
    [
        (["A cat.", " \n"], {}, ValueError, "text 1 is empty; expected at least one word"),
        (["A cat."], {"max_words": 0}, ValueError, "max_words is 0; expected at least 1"),
        ("A cat.", {}, TypeError, "a single text; expected a sequence of texts"),
    ],
)
def test_bad_texts_are_refused(texts, options, error, message):
    with pytest.raises(error, match=message):
        parse(texts, **options)


@pytest.fixture(scope="module")
def spacy():
    pytest.importorskip("spacy", reason="spaCy is not installed (the optional dependencies `sentences`)")
    pytest.importorskip(parsing.PIPELINE, reason="the English pipeline is not installed (`sentences`)")


@pytest.mark.usefixtures("spacy")
def test_spacy_parses():
    simple, several = parse(["The cat\t sleeps .", "Stop now. She reads books, and he sleeps. Good!"])
    assert simple == Tree(("The", "cat", "sleeps", "."), ("det", "nsubj", "ROOT", "punct"), (1, 2, -1, 2))
    assert several.heads.count(-1) == 1
    assert several.relations.count(NEXT_SENTENCE) == 2
    chain = [several.words[head] for head, r in zip(several.heads, several.relations, strict=True) if "next" in r]
    assert chain == ["Stop", "reads"]
    assert parse(["Stop now. She reads books, and he sleeps. Good!"]) == [several]


@pytest.mark.usefixtures("spacy")
def test_long_texts_are_cut():
    text = "This is a long film that never ends , and then it goes on . " * 20
    (tree,) = parse([text])
    assert len(tree.words) == len(tree.relations) == len(tree.heads) == 100
    assert tree.words == tuple(text.split()[:100])
    assert tree.heads.count(-1) == 1
    assert max(tree.heads) < 100
