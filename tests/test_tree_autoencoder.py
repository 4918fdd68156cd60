"""The tree autoencoder: equal to a node-by-node recursion, indifferent to order and batch, trained to the same bits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from advtransfer.models.tree_autoencoder import TEMPERATURE, TreeAutoencoder, plant, straight_through
from advtransfer.records.weights import Checkpoint, content
from advtransfer.training.loop import TrainingError
from advtransfer.training.trees import fit_autoencoder, reconstructed

WORDS, RELATIONS, HIDDEN = 9, 4, 6


def autoencoder(n_words=WORDS, seed=0, **options):
    options = {"hidden": HIDDEN, "word_size": 5, "relation_size": 3} | options
    return TreeAutoencoder(n_words, RELATIONS, seed=seed, **options).double().eval()


@st.composite
def trees(draw, most=9):
    """A tree of words and relations whose nodes stand in any order."""
    n = draw(st.integers(1, most))
    order = draw(st.permutations(range(n)))
    heads = [-1] * n
    for place in range(1, n):
        heads[order[place]] = order[draw(st.integers(0, place - 1))]
    words = draw(st.lists(st.integers(1, WORDS - 1), min_size=n, max_size=n))
    relations = draw(st.lists(st.integers(0, RELATIONS - 1), min_size=n, max_size=n))
    return words, relations, heads


forests = st.lists(trees(), min_size=1, max_size=4)


# The same, node by node, from the published equations.


def children(heads, node):
    return [child for child, head in enumerate(heads) if head == node]


def encode_node(model, words, relations, heads, node):
    """h and c of a node, by recursion."""
    x = model.words.weight[words[node]]
    w, b = model.from_word.weight.chunk(4), model.from_word.bias.chunk(4)
    u = model.from_children.weight.chunk(3)
    sums, kept = torch.zeros(HIDDEN).double(), torch.zeros(HIDDEN).double()
    for child in children(heads, node):
        h, c = encode_node(model, words, relations, heads, child)
        shift = model.from_relation.weight @ model.relations.weight[relations[child]]
        h, c = h + shift[:HIDDEN], c + shift[HIDDEN:]
        sums = sums + h
        kept = kept + torch.sigmoid(w[3] @ x + b[3] + model.from_child.weight @ h) * c
    i, o, update = (w[k] @ x + b[k] + u[k] @ sums for k in range(3))
    c = i.sigmoid() * update.tanh() + kept
    return o.sigmoid() * c.tanh(), c


def lstm(cell, x, h, c):
    i, f, g, o = (cell.weight_ih @ x + cell.bias_ih + cell.weight_hh @ h + cell.bias_hh).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def decode_node(model, tree, node, states, word, teacher, logits):
    """Fill `logits`, node → (V,), for a node and all below it."""
    _, relations, heads = tree
    x = torch.cat([model.relations.weight[relations[node]], word])
    below = []
    for cell, (h, c) in zip(model.cells, states, strict=True):
        x, c = lstm(cell, x, h, c)
        below.append((x, c))
    logits[node] = model.to_words(x)
    said = teacher[node] if teacher else int(logits[node].argmax())
    for child in children(heads, node):
        decode_node(model, tree, child, below, model.words.weight[said], teacher, logits)


def one_by_one(model, tree, taught):
    root, _ = encode_node(model, *tree, tree[2].index(-1))
    start = model.start(root).view(len(model.cells), 2, HIDDEN)
    logits = {}
    above = model.above_root[0]
    decode_node(model, tree, tree[2].index(-1), [tuple(s) for s in start], above, tree[0] if taught else None, logits)
    return root, torch.stack([logits[node] for node in range(len(tree[0]))])


@settings(max_examples=40, deadline=None)
@given(forest=forests, seed=st.integers(0, 99), layers=st.integers(1, 3))
def test_levels_at_once_equal_the_recursion_of_every_tree(forest, seed, layers):
    model, planted = autoencoder(seed=seed, layers=layers), plant(forest)
    with torch.no_grad():
        root = model.encode(planted)
        for logits, taught in ((model(planted), True), (model.decode(root, planted), False)):
            expected = [one_by_one(model, tree, taught) for tree in forest]
            torch.testing.assert_close(root, torch.stack([r for r, _ in expected]), rtol=1e-12, atol=1e-14)
            torch.testing.assert_close(logits, torch.cat([a for _, a in expected]), rtol=1e-12, atol=1e-14)


def shuffled(tree, order):
    """The same tree with its nodes written down in another order."""
    words, relations, heads = tree
    new = {old: place for place, old in enumerate(order)}
    return [words[k] for k in order], [relations[k] for k in order], [new.get(heads[k], -1) for k in order]


@settings(max_examples=40, deadline=None)
@given(tree=trees(), data=st.data())
def test_the_order_of_children_does_not_matter(tree, data):
    order = data.draw(st.permutations(range(len(tree[0]))))
    model, one, other = autoencoder(), plant([tree]), plant([shuffled(tree, order)])
    with torch.no_grad():
        torch.testing.assert_close(model.encode(one), model.encode(other), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(model(one)[list(order)], model(other), rtol=1e-12, atol=1e-14)


@given(forest=forests, data=st.data())
def test_selecting_is_planting_fewer(forest, data):
    chosen = data.draw(st.lists(st.integers(0, len(forest) - 1), min_size=1, max_size=5))
    selected, planted = plant(forest).select(torch.tensor(chosen)), plant([forest[k] for k in chosen])
    assert all(torch.equal(a, b) for a, b in zip(selected, planted, strict=True))
    assert planted.place.tolist() == [place for k in chosen for place in range(len(forest[k][0]))]


def test_siblings_by_the_same_relation_get_the_same_word():
    """A limit of the method: nothing that the decoder sees tells them apart."""
    planted = plant([([1, 2, 3, 4], [0, 1, 1, 2], [-1, 0, 0, 0])])
    logits = autoencoder()(planted)
    assert torch.equal(logits[1], logits[2])
    assert not torch.equal(logits[1], logits[3])


def test_a_choice_is_hard_forward_and_soft_backward():
    generator = torch.Generator().manual_seed(0)
    logits, table = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((5, 7), (7, 3)))
    logits.requires_grad_()
    assert torch.equal(straight_through(logits, table), table[logits.argmax(1)])
    (jacobian,) = torch.autograd.functional.jacobian(lambda a: straight_through(a, table), (logits,))
    p = F.softmax(logits.detach() / TEMPERATURE, dim=1)
    expected = (torch.diag_embed(p) - p[:, :, None] * p[:, None, :]) @ table / TEMPERATURE  # (5, 7, 3)
    for n in range(5):
        torch.testing.assert_close(jacobian[n, :, n].T, expected[n], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("forest", "message"),
    [
        ([], "there are no trees"),
        ([([1], [0], [-1]), ([1, 2], [0], [-1, 0])], "tree 1 has 2 words, 1 relations and 2 heads"),
        ([([], [], [])], "tree 0 has 0 words"),
        ([([1, 1], [0, 0], [-1, -1])], r"tree 0 has the heads \[-1, -1\]; expected places of its words, and one -1"),
        ([([1, 1], [0, 0], [-1, 2])], r"tree 0 has the heads \[-1, 2\]"),
        ([([1], [0], [-1]), ([1, 1, 1], [0, 0, 0], [-1, 2, 1])], "tree 1 has a cycle of heads"),
    ],
)
def test_what_is_no_forest_is_refused(forest, message):
    with pytest.raises(ValueError, match=message):
        plant(forest)


def test_numbers_and_sizes_that_do_not_fit_are_refused():
    model, planted = autoencoder(), plant([([1, 2], [0, 1], [-1, 0])])
    with pytest.raises(ValueError, match=r"words span \[1, 9\]; expected numbers in \[0, 8\]"):
        model.encode(plant([([1, 9], [0, 0], [-1, 0])]))
    with pytest.raises(ValueError, match=r"relations span \[4, 4\]"):
        model.encode(plant([([1], [4], [-1])]))
    with pytest.raises(ValueError, match=r"root has shape \(2, 6\); expected \(1, 6\), one row a tree"):
        model.decode(torch.zeros(2, HIDDEN).double(), planted)
    with pytest.raises(ValueError, match="hidden is 0; expected at least 1"):
        autoencoder(hidden=0)
    with pytest.raises(ValueError, match="dropout is 1; expected at least 0 and below 1"):
        autoencoder(dropout=1)


# Training.


def sentences(n=60, seed=0):
    """Trees of 1 to 6 words in which the word follows from the relation and a topic that only the root's word tells."""
    draw = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(n):
        size, topic = (int(torch.randint(1, high, (), generator=draw)) for high in (7, 3))
        heads = [-1, *(int(torch.randint(0, k, (), generator=draw)) for k in range(1, size))]
        relations = [0, *torch.randint(1, RELATIONS, (size - 1,), generator=draw).tolist()]
        made.append(([topic + 2 * r for r in relations], relations, heads))
    return plant(made)


def fit(model=None, **options):
    model = model or TreeAutoencoder(WORDS, RELATIONS, hidden=24, word_size=8, relation_size=4, dropout=0.1)
    options = {"epochs": 3, "batch_size": 16, "lr": 0.01} | options
    return model, fit_autoencoder(model, sentences(), **options)


def test_learns_and_leaves_no_trace():
    before = torch.get_rng_state()
    with torch.no_grad():
        model, _ = fit(epochs=20)
        assert not torch.is_grad_enabled()
    unseen = sentences(20, seed=1)
    assert reconstructed(fit(epochs=1)[0], unseen).double().mean() < 0.95 < reconstructed(model, unseen).double().mean()
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in model.modules())
    assert all(weight.grad is None for weight in model.parameters())


def test_what_comes_back_is_counted_word_by_word():
    model, held_out = fit()[0], sentences(20, seed=1)
    said = model.decode(model.encode(held_out), held_out).argmax(1)
    right = reconstructed(model, held_out, batch_size=7)
    assert torch.equal(right, said == held_out.words)
    assert 0 < right.double().mean() < 1
    unknown = held_out._replace(words=torch.zeros_like(held_out.words))
    with torch.no_grad():
        model.to_words.bias[0] += 1e6  # says the unknown word and nothing else
    assert not reconstructed(model, unknown).any()


def test_the_unknown_word_is_never_asked_for():
    only_unknown = sentences()._replace(words=torch.zeros_like(sentences().words))
    model = TreeAutoencoder(WORDS, RELATIONS, hidden=8, word_size=8, relation_size=4)
    before = content(model.state_dict())
    fit_autoencoder(model, only_unknown, epochs=1)
    assert content(model.state_dict()) == before


def test_the_same_bits_twice_and_others_for_another_seed():
    first, second, other = (content(fit(epochs=1, seed=seed)[1].last) for seed in (1, 1, 2))
    assert first == second != other


class Killed(Checkpoint):
    """A checkpoint in whose training somebody pulls the plug after an epoch."""

    def save(self, state):
        super().save(state)
        raise KeyboardInterrupt(f"after epoch {len(state['accuracy'])}")


def test_killed_and_started_again_it_ends_in_the_same_bits(tmp_path):
    _, whole = fit()
    for epoch in (1, 2):  # each time it goes on from where it was
        with pytest.raises(KeyboardInterrupt, match=f"after epoch {epoch}"):
            fit(checkpoint=Killed(tmp_path / "state"))
    _, again = fit(checkpoint=Checkpoint(tmp_path / "state"))
    assert content(again.last) == content(whole.last)


def test_bad_training_is_an_error():
    with pytest.raises(ValueError, match="epochs is 0; expected a number above 0"):
        fit(epochs=0)
    model = TreeAutoencoder(WORDS, RELATIONS, hidden=8)
    with torch.no_grad():
        model.to_words.bias[1] = torch.nan
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 1 of 3; .* below 0.01"):
        fit(model)
