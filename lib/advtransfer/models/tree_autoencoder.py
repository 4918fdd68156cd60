"""An autoencoder of sentences and their dependency trees: it maps a tree to one vector, and back to the words.

The encoder is the Child-Sum TreeLSTM; the decoder runs an LSTM from each word down to its dependents. The tree itself
(which word depends on which, and how) is given to the decoder, so only the words have to be recovered from the vector.
Many trees are computed at once, one level of depth at a time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advtransfer.checks import as_count

TEMPERATURE = 0.1  # of the soft choice of words through which gradients flow

Tree = tuple[Sequence[int], Sequence[int], Sequence[int]]
"""Words, relations to their heads, and heads (-1 for the root), one of each per word."""


class Forest(NamedTuple):
    """T trees with M nodes (words) in total, one tree after the other, each in the order of its sentence."""

    words: Tensor
    """(M,) int64: the number of each word in the vocabulary."""
    relations: Tensor
    """(M,) int64: the number of the relation between the word and its head."""
    parent: Tensor
    """(M,) int64: the node of the head; -1 for a root."""
    depth: Tensor
    """(M,) int64: the number of steps up to the root."""
    tree: Tensor
    """(M,) int64: the tree of the node, from 0 to T − 1."""

    @property
    def sizes(self) -> Tensor:
        """(T,) int64: the number of words of each tree."""
        return torch.bincount(self.tree)

    @property
    def place(self) -> Tensor:
        """(M,) int64: the position of each word in its sentence, from 0."""
        sizes = self.sizes
        return torch.arange(len(self.tree), device=self.tree.device) - (sizes.cumsum(0) - sizes)[self.tree]

    def to(self, device: torch.device) -> "Forest":
        """The same trees on a device."""
        return Forest(*(part.to(device) for part in self))

    def select(self, trees: Tensor) -> "Forest":
        """The trees with the numbers `trees`, (K,) int64, in that order."""
        sizes = self.sizes
        start = sizes.cumsum(0) - sizes
        tree = torch.arange(len(trees), device=trees.device).repeat_interleave(sizes[trees])  # (M',)
        shift = start[trees] - (sizes[trees].cumsum(0) - sizes[trees])  # old number of a node minus its new one, (K,)
        nodes = torch.arange(len(tree), device=trees.device) + shift[tree]
        parent = self.parent[nodes]
        parent = torch.where(parent < 0, parent, parent - shift[tree])
        return Forest(self.words[nodes], self.relations[nodes], parent, self.depth[nodes], tree)


def plant(trees: Sequence[Tree]) -> Forest:
    """Put trees together into a forest.

    Parameters
    ----------
    trees
        T ≥ 1 triples of equally long sequences: words, relations and heads. A head is a position in its own tree, from
        0, and −1 marks the root.

    Returns
    -------
    Forest
        The forest, on the CPU.

    Raises
    ------
    ValueError
        There is no tree, or one of them (named by its number) is not a tree.

    Examples
    --------
    "she reads books", with *reads* as the root:

    >>> plant([([7, 8, 9], [1, 0, 2], [1, -1, 1])]).depth
    tensor([1, 0, 1])
    """
    if not trees:
        raise ValueError("there are no trees; expected at least one")
    for number, parts in enumerate(trees):
        _check_tree(number, *parts)
    sizes = torch.tensor([len(words) for words, _, _ in trees])
    tree = torch.arange(len(trees)).repeat_interleave(sizes)
    words, relations, heads = (torch.tensor([value for t in trees for value in t[k]]) for k in range(3))
    parent = torch.where(heads < 0, -1, heads + (sizes.cumsum(0) - sizes)[tree])
    depth, above = torch.zeros_like(parent), parent
    while (above >= 0).any():
        depth += above >= 0
        above = torch.where(above < 0, -1, parent[above])
        if depth.max() >= sizes.max():  # deeper than there are words
            raise ValueError(f"tree {int(tree[depth.argmax()])} has a cycle of heads; expected a path up to the root")
    return Forest(words, relations, parent, depth, tree)


def _check_tree(number: int, words: Sequence[int], relations: Sequence[int], heads: Sequence[int]) -> None:
    if not 0 < len(words) == len(relations) == len(heads):
        counts = f"{len(words)} words, {len(relations)} relations and {len(heads)} heads"
        raise ValueError(f"tree {number} has {counts}; expected one of each per word, and at least one word")
    if list(heads).count(-1) != 1 or not all(-1 <= head < len(heads) for head in heads):
        raise ValueError(f"tree {number} has the heads {list(heads)}; expected places of its words, and one -1")


def straight_through(logits: Tensor, table: Tensor) -> Tensor:
    """The rows of `table` that `logits` rank first, with the gradient of a soft choice.

    Parameters
    ----------
    logits
        (M, V), with one column for each row of the table.
    table
        (V, k), with the rows to choose from.

    Returns
    -------
    Tensor
        (M, k): exactly ``table[logits.argmax(1)]``; its gradient is that of ``softmax(logits / TEMPERATURE) @ table``.
    """
    soft = F.softmax(logits / TEMPERATURE, dim=1) @ table
    return table[logits.argmax(1)].detach() + (soft - soft.detach())


class TreeAutoencoder(nn.Module):
    """A Child-Sum TreeLSTM that computes the root's vector from a tree, and a top-down LSTM for the way back.

    The sizes (the defaults here), the use of the relation in a child's state, the inputs of the decoder and its dropout
    are known from the released model. The rest is chosen here: encoder and decoder share their embeddings; one linear
    map of the relation is added to a child's h and another one to its c; a linear map of the root's vector initialises
    h and c of every layer of the decoder; the "word above" of the root is a learned vector; dropout acts between the
    layers and before the map to the vocabulary.

    For each word, the decoder sees only the relation and what is above the word. So dependents of one head with the
    same relation always get the same word, and the order of dependents does not matter.

    Parameters
    ----------
    n_words, n_relations : int
        Sizes V of the vocabulary and R of the set of relations.
    hidden, word_size, relation_size : int
        Size H of a node's vector, and sizes of the embeddings of words and relations.
    layers : int
        Number of layers of the decoder.
    dropout : float
        Share of the decoder's units that are dropped in training.
    seed : int
        Seed of the initial weights; the global random state is left alone.

    Raises
    ------
    ValueError
        A size is below 1, or `dropout` is outside [0, 1).

    References
    ----------
    Tai et al. (2015), "Improved semantic representations from tree-structured long short-term memory networks".
    Wang et al. (2020), "T3: Tree-autoencoder constrained adversarial text generation for targeted attack".
    """

    def __init__(
        self, n_words: int, n_relations: int, *, hidden: int = 300, word_size: int = 100, relation_size: int = 50,
        layers: int = 2, dropout: float = 0.5, seed: int = 0,
    ) -> None:  # fmt: skip
        sizes = {"n_words": n_words, "n_relations": n_relations, "hidden": hidden, "layers": layers}
        for name, size in (sizes | {"word_size": word_size, "relation_size": relation_size}).items():
            as_count(name, size)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; expected at least 0 and below 1")
        super().__init__()
        self.hidden, self.dropout = hidden, dropout
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs as well
            self.words = nn.Embedding(n_words, word_size)
            self.relations = nn.Embedding(n_relations, relation_size)
            # the encoder: the gates are input, output, update and forget
            self.from_word = nn.Linear(word_size, 4 * hidden)
            self.from_children = nn.Linear(hidden, 3 * hidden, bias=False)
            self.from_child = nn.Linear(hidden, hidden, bias=False)
            self.from_relation = nn.Linear(relation_size, 2 * hidden, bias=False)
            # the decoder
            self.start = nn.Linear(hidden, 2 * layers * hidden)
            self.above_root = nn.Parameter(torch.randn(1, word_size))
            inputs = [relation_size + word_size, *[hidden] * (layers - 1)]
            self.cells = nn.ModuleList(nn.LSTMCell(size, hidden) for size in inputs)
            self.to_words = nn.Linear(hidden, n_words)

    def encode(self, forest: Forest) -> Tensor:
        """The vectors (T, H) of the roots."""
        _check_ids(forest, self.words.num_embeddings, self.relations.num_embeddings)
        order, sizes, above = _levels(forest)
        gates = self.from_word(self.words(forest.words[order]))  # (M, 4H)
        relations = self.from_relation(self.relations(forest.relations[order]))  # (M, 2H)
        levels = list(zip(gates.split(sizes), relations.split(sizes), above.split(sizes), strict=True))

        h = below_h = below_c = gates.new_zeros(0, self.hidden)  # of the children, as their parents see them
        parents = above[:0]
        for gate, relation, above_d in reversed(levels):  # n nodes with k children
            i, o, u, f = gate.chunk(4, dim=1)  # (n, H) each
            sums = torch.zeros_like(i).index_add(0, parents, below_h)
            i_children, o_children, u_children = self.from_children(sums).chunk(3, dim=1)
            forget = torch.sigmoid(f[parents] + self.from_child(below_h))  # (k, H)
            kept = torch.zeros_like(i).index_add(0, parents, forget * below_c)
            c = torch.sigmoid(i + i_children) * torch.tanh(u + u_children) + kept
            h = torch.sigmoid(o + o_children) * torch.tanh(c)
            h_relation, c_relation = relation.chunk(2, dim=1)
            below_h, below_c, parents = h + h_relation, c + c_relation, above_d
        return h

    def decode(self, root: Tensor, forest: Forest, teacher: Tensor | None = None) -> Tensor:
        """Compute the logits of the words, from the root down.

        Parameters
        ----------
        root
            (T, H): the vectors of the roots, as `encode` returns them.
        forest
            The trees to fill with words; the words that they already have are ignored.
        teacher
            (M,) int64: the words that are passed down. By default these are the words that the decoder itself ranks
            first, with the gradients of `straight_through`.

        Returns
        -------
        Tensor
            (M, V), in the order of the forest.

        Raises
        ------
        ValueError
            `root` does not have one vector per tree.
        """
        order, sizes, above = _levels(forest)
        if root.shape != (sizes[0], self.hidden):
            raise ValueError(f"root has shape {tuple(root.shape)}; expected {(sizes[0], self.hidden)}, one row a tree")
        relations = self.relations(forest.relations[order]).split(sizes)
        given = None if teacher is None else self.words(teacher[order]).split(sizes)

        states = list(self.start(root).chunk(len(self.cells), dim=1))  # h and c of a layer side by side, (T, 2H)
        word = self.above_root.expand(len(root), -1)
        logits = []
        for level, (relation, above_d) in enumerate(zip(relations, above.split(sizes), strict=True)):
            x = torch.cat([relation, word[above_d]], dim=1)
            for layer, cell in enumerate(self.cells):
                h, c = cell(x, states[layer][above_d].chunk(2, dim=1))
                states[layer] = torch.cat([h, c], dim=1)
                x = F.dropout(h, self.dropout, self.training)
            logits.append(self.to_words(x))
            word = given[level] if given is not None else straight_through(logits[-1], self.words.weight)
        return torch.cat(logits)[order.argsort()]

    def forward(self, forest: Forest) -> Tensor:
        """The logits (M, V) of the words of a forest when the right words are passed down, as in training."""
        return self.decode(self.encode(forest), forest, teacher=forest.words)


def _levels(forest: Forest) -> tuple[Tensor, list[int], Tensor]:
    """The nodes ordered by depth, the size of each level, and the position of each node's parent in the level above.

    Above the roots there is one more level, with one entry per tree. The parent of a root is the entry of its tree.
    """
    order = forest.depth.argsort(stable=True)
    sizes = torch.bincount(forest.depth)
    rank = order.argsort() - (sizes.cumsum(0) - sizes)[forest.depth]  # position in the node's own level, (M,)
    above = torch.where(forest.parent < 0, forest.tree, rank[forest.parent])
    return order, sizes.tolist(), above[order]


def _check_ids(forest: Forest, n_words: int, n_relations: int) -> None:
    for name, ids, n in (("words", forest.words, n_words), ("relations", forest.relations, n_relations)):
        low, high = map(int, ids.aminmax())
        if low < 0 or high >= n:
            raise ValueError(f"{name} span [{low}, {high}]; expected numbers in [0, {n - 1}], those of the model")
