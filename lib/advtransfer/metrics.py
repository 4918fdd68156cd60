r"""The adversarial transferability metrics α1, α2 and α1∗α2 (Definitions 1 and 2 and the combined metric).

For an attack δ1 made against model 1 and δ2 against model 2, with the deviations
Δ11 = f1(x + δ1) - f1(x), Δ12 = f2(x + δ1) - f2(x) and Δ22 = f2(x + δ2) - f2(x):

.. math::
   \alpha_1(x) = \|\Delta_{12}\| / \|\Delta_{22}\|, \quad
   \alpha_2 = \|E\,\hat\Delta_{11} \hat\Delta_{12}^\top\|_F, \quad
   \alpha_1 {*} \alpha_2 = \|E\,\alpha_1(x)\, \hat\Delta_{11} \hat\Delta_{12}^\top\|_F .

None of them is squared. Where model 2's own attack does not move model 2, α1(x) is undefined. Such samples are left
out, and their number is reported.
"""

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from advtransfer.checks import as_count, check_batch, check_jacobians
from advtransfer.intervals import directions, signed_root, unbiased_square
from advtransfer.modes import Model, evaluating, halved, outputs_of, unsteady
from advtransfer.spectral import SingularAttacks, singular_attacks

Attack = Callable[[Model, Tensor], Tensor]
"""A function that maps a model and inputs (N, ...) to perturbations of the inputs' shape and dtype."""
Batches = Iterable[Tensor | Sequence[Tensor]]
"""Batches of inputs, or of tuples that begin with inputs, such as a `DataLoader`."""


class UnsteadyModelWarning(UserWarning):
    """A model is random in eval mode, or reads the other samples of a batch: deviations hold more than the attack."""


@dataclass(frozen=True, eq=False)
class Transferability:
    """The metrics of one ordered pair of models, from N samples."""

    alpha1: float
    """Mean of α1(x). A few samples with a small denominator can make it; compare it with the two robust numbers."""
    alpha1_ratio: float
    """Ratio of the mean deviations, Σ‖Δ₁₂(x)‖ / Σ‖Δ₂₂(x)‖, over the samples where α1(x) is defined, which is α1
    without a small denominator."""
    alpha2: float
    """Plug-in estimate of α2. When directions are unrelated, it is too large by about 1/√N, the noise floor."""
    alpha12: float
    """Plug-in estimate of α1∗α2."""
    alpha2_unbiased: float
    """Signed root of the unbiased estimate of α2²; a negative value means that nothing rises above the noise."""
    alpha12_unbiased: float
    """Signed root of the unbiased estimate of (α1∗α2)²."""
    alpha1_samples: Tensor = field(repr=False)
    """α1(x), shape (N,), float64; NaN where it is undefined."""
    n: int
    """Number of samples counted, which are those where α1(x) is defined."""
    undefined: int
    """Number of samples left out because model 2's own attack does not move model 2."""

    @property
    def alpha1_median(self) -> float:
        """Median of α1(x)."""
        return self.alpha1_samples.nanquantile(0.5).item()


class Accumulator:
    """Computes the metrics from batches of deviations; keeps O(d1·d2) numbers, and α1(x) of each sample.

    Examples
    --------
    Models with a second input, such as an attention mask, which is bound to them in each batch and is not attacked:

    >>> from functools import partial
    >>> from advtransfer import attacks
    >>> first, second = torch.nn.Bilinear(4, 7, 3), torch.nn.Bilinear(4, 7, 2)
    >>> loader = [(torch.rand(5, 4), torch.ones(5, 7)) for _ in range(2)]
    >>> total, attack = Accumulator(), partial(attacks.pgd, eps=0.1, loss="deviation")
    >>> for x, mask in loader:
    ...     models = [partial(model, input2=mask) for model in (first, second)]
    ...     moved = deviations(models, x, attack, batch_size=len(x))
    ...     total.update(moved[0, 0], moved[0, 1], moved[1, 1])
    >>> total.compute().n
    10
    """

    def __init__(self) -> None:
        self._samples: list[Tensor] = []
        self._sums: Tensor | None = None  # (2, d1, d2): sums of G and α1 G, with G the outer product of unit deviations
        self._diagonals = torch.zeros(2, dtype=torch.float64, device="cpu")  # sums of ‖G‖² and ‖α1 G‖²
        self._norms = torch.zeros(2, dtype=torch.float64, device="cpu")  # sums of ‖Δ₁₂‖ and ‖Δ₂₂‖

    def update(self, d11: Tensor, d12: Tensor, d22: Tensor) -> None:
        """Add a batch of deviations, shapes (N, d1), (N, d2) and (N, d2)."""
        alpha1, u, w = directions(*(d.detach() for d in (d11, d12, d22)))
        kept = ~torch.isnan(alpha1)
        u = torch.where(kept[:, None], u, 0)
        weights = torch.stack([torch.ones_like(alpha1), torch.where(kept, alpha1, 0)])  # (2, N)
        sums = torch.einsum("wn,nd,nm->wdm", weights, u, w)
        if self._sums is not None and self._sums.shape != sums.shape:
            given, before = tuple(sums.shape[1:]), tuple(self._sums.shape[1:])
            raise ValueError(f"deviations have widths {given}; expected {before} as in the batches before")
        self._sums = sums if self._sums is None else self._sums + sums
        present = (u.square().sum(1) * w.square().sum(1)).round()  # 1, or 0 for a row without a direction
        self._diagonals += (weights.square() @ present).cpu()
        self._norms += torch.stack([d.double().norm(dim=1)[kept].sum() for d in (d12, d22)]).cpu()
        self._samples.append(alpha1.cpu())

    def compute(self) -> Transferability:
        """The metrics of everything added so far.

        Raises
        ------
        ValueError
            No deviations were added.
        """
        if self._sums is None:
            raise ValueError("no deviations were added; expected at least one batch")
        samples = torch.cat(self._samples)
        n = int((~samples.isnan()).sum())
        squares = [((s / n).square().sum().item() if n else float("nan")) for s in self._sums]
        unbiased = [
            signed_root(unbiased_square(v, diagonal, n))
            for v, diagonal in zip(squares, self._diagonals.tolist(), strict=True)
        ]
        return Transferability(
            alpha1=samples.nanmean().item(),
            alpha1_ratio=(self._norms[0] / self._norms[1]).item(),
            alpha2=squares[0] ** 0.5,
            alpha12=squares[1] ** 0.5,
            alpha2_unbiased=unbiased[0],
            alpha12_unbiased=unbiased[1],
            alpha1_samples=samples,
            n=n,
            undefined=len(samples) - n,
        )


def from_deviations(d11: Tensor, d12: Tensor, d22: Tensor) -> Transferability:
    """The metrics, computed from all output deviations at once.

    Parameters
    ----------
    d11
        Δ₁₁, model 1's deviation under the attack on model 1, shape (N, d1).
    d12
        Δ₁₂, model 2's deviation under the attack on model 1, shape (N, d2).
    d22
        Δ₂₂, model 2's deviation under the attack on model 2, shape (N, d2).

    Raises
    ------
    TypeError, ValueError
        A batch that is empty or not finite, or shapes that do not match.

    Examples
    --------
    The transferability of a model to itself: α1 is 1, while α2 is 1 only if all deviations lie on one line.

    >>> d = torch.eye(4)
    >>> result = from_deviations(d, d, d)
    >>> result.alpha1, result.alpha2
    (1.0, 0.5)
    """
    total = Accumulator()
    total.update(d11, d12, d22)
    return total.compute()


def from_jacobians(
    jac_1: Tensor,
    jac_2: Tensor,
    *,
    level: int = 0,
    attacks: tuple[SingularAttacks, SingularAttacks] | None = None,
) -> Transferability:
    """The metrics of the small-ε regime (equations 5, 6 and 10): the attack is an exact singular vector.

    α1 compares the effect of the attack number `level` with that of model 2's strongest attack, as in equation 11. For
    an inner product H other than the identity, pass the Jacobians of the whitened outputs, H^½ J.

    Parameters
    ----------
    jac_1, jac_2
        Jacobians, shapes (N, d1, n) and (N, d2, n).
    level
        0 for the regular attack δ⁽¹⁾, 1 for the secondary attack δ⁽²⁾ (Figure 2b), and so on.
    attacks
        The singular attacks of both models, if they are already known.

    Raises
    ------
    ValueError
        Shapes that do not match, or a level out of range.
    """
    check_jacobians(jac_1=jac_1, jac_2=jac_2)
    jac_1, jac_2 = jac_1.double(), jac_2.double()  # in their own dtype a weak attack would be rounded away
    first, second = attacks or (singular_attacks(jac_1), singular_attacks(jac_2, k=1))
    level = as_count("level", level, least=0, most=first.delta.shape[1] - 1)
    delta_1, delta_2 = (d.double()[:, None] for d in (first.delta[:, level], second.delta[:, 0]))  # (N, 1, n)
    d11, d12, d22 = ((d @ jac.mT).squeeze(1) for d, jac in ((delta_1, jac_1), (delta_1, jac_2), (delta_2, jac_2)))
    return from_deviations(d11, d12, d22)


def transferability(
    f1: Model, f2: Model, x: Tensor | Batches, attack: Attack, *, batch_size: int = 256
) -> Transferability:
    """Measure how well attacks on `f1` carry over to `f2`.

    Parameters
    ----------
    f1, f2
        Models that map (N, ...) to (N, d1) and (N, d2). They are evaluated in eval mode and left as they were.
    x
        Inputs (N, ...); or an iterable of batches, such as a `DataLoader`, of which only one is in memory at a time.
        Of a batch that is a tuple or a list, such as (inputs, labels), the first member is taken.
    attack
        ``attack(model, x)`` is called with the model in eval mode and a copy of the inputs. It returns perturbations δ
        with the shape and dtype of x, and not x + δ, e.g. ``partial(attacks.pgd, eps=8 / 255)``.
    batch_size
        Number of samples per pass if `x` is one tensor. The attack is called for each pass, so one that starts at
        random may give other perturbations with another `batch_size`.

    Raises
    ------
    TypeError, ValueError
        No batch or an empty one, values that are not finite, or outputs that are not of shape (N, d).

    Warns
    -----
    UnsteadyModelWarning
        In the first batch, a model gives a sample other outputs when it is beside other samples.
    UserWarning
        A batch has a second input, which the models would not get; `Accumulator` has an example of such models. Or the
        attack may have given x + δ.
    """
    return _accumulate([f1, f2], x, attack, batch_size, [(0, 1)])[0, 1]


@dataclass(frozen=True, eq=False)
class TransferMatrix:
    """The metrics of every ordered pair of K models. Rows are attacked models, columns are evaluated models."""

    alpha1: Tensor
    """(K, K): means of α1(x). The next four have the same shape, and mean what they mean in `Transferability`."""
    alpha2: Tensor
    alpha12: Tensor
    alpha2_unbiased: Tensor
    alpha12_unbiased: Tensor
    alpha1_samples: Tensor = field(repr=False)
    """(K, K, N): α1(x) of each sample; NaN where it is undefined."""
    n: Tensor
    """(K, K): numbers of samples counted."""
    undefined: Tensor
    """(K, K): numbers of samples left out."""


def transfer_matrix(
    models: Sequence[Model], x: Tensor | Batches, attack: Attack, *, batch_size: int = 256
) -> TransferMatrix:
    """The metrics of every ordered pair of K models.

    A batch takes K attacks, K forward passes on clean inputs and K² forward passes on attacked inputs; the first one K
    more, which tell whether the outputs for a sample depend on the others.

    Parameters
    ----------
    models
        K models, each of which maps (N, ...) to (N, d) with its own d.
    x, attack, batch_size
        As for :func:`transferability`.

    Raises
    ------
    ValueError
        There is no model; otherwise as for :func:`transferability`.
    """
    if not models:
        raise ValueError("no models were given; expected at least one")
    size = len(models)
    cells = _accumulate(models, x, attack, batch_size, [(i, j) for i in range(size) for j in range(size)])

    def table(name: str) -> Tensor:
        values = [getattr(cells[i, j], name) for i in range(size) for j in range(size)]
        if not isinstance(values[0], Tensor):
            values = [torch.tensor(value, dtype=torch.float64, device="cpu") for value in values]
        return torch.stack(values).unflatten(0, (size, size))

    return TransferMatrix(**{field.name: table(field.name) for field in fields(TransferMatrix)})


def deviations(
    models: Sequence[Model],
    x: Tensor,
    attack: Attack,
    *,
    pairs: Collection[tuple[int, int]] | None = None,
    batch_size: int = 256,
) -> dict[tuple[int, int], Tensor]:
    """How the attack on each of K models moves the outputs of each of them.

    :func:`transfer_matrix` computes these deviations but does not return them. They give the values at single samples,
    or intervals. They take K attacks, K forward passes on clean inputs, K more on the first `batch_size` of them,
    and at most K² on attacked inputs.

    Parameters
    ----------
    models, attack
        As for :func:`transfer_matrix`; `attack` is called once per model, with all of `x`.
    x
        Inputs (N, ...).
    pairs
        Which pairs (attacked, evaluated) to compute; by default all. Only models that some pair names as attacked are
        attacked.
    batch_size
        Number of samples per forward pass.

    Returns
    -------
    dict
        Maps (i, j) to f_j(x + δ_i) - f_j(x), shape (N, d_j).

    Raises
    ------
    ValueError
        No model, no pair, a pair of a model that is not there, an empty batch, or outputs or perturbations that are not
        as described.

    Warns
    -----
    UnsteadyModelWarning
        A model gives a sample other outputs when it is beside other samples.
    """
    if not models:
        raise ValueError("no models were given; expected at least one")
    batch_size = as_count("batch_size", batch_size)
    check_batch("x", x)
    _check_callable(models)
    wanted = sorted({(i, j) for i in range(len(models)) for j in range(len(models))} if pairs is None else set(pairs))
    if not wanted:
        raise ValueError("no pairs were given; expected at least one")
    if any(not 0 <= k < len(models) for pair in wanted for k in pair):
        raise ValueError(f"pairs are {wanted}; expected numbers of models, from 0 to {len(models) - 1}")
    return _moved(models, x, attack, wanted, batch_size, tried=True)


def _check_callable(models: Sequence[Model]) -> None:
    if strange := next((type(model).__name__ for model in models if not callable(model)), None):
        raise TypeError(f"a model is a {strange}; expected a module or a function of a batch")


def _moved(
    models: Sequence[Model],
    x: Tensor,
    attack: Attack,
    wanted: Collection[tuple[int, int]],
    batch_size: int,
    *,
    tried: bool,
) -> dict[tuple[int, int], Tensor]:
    """The deviations of some pairs; if `tried`, a model that is no function of each sample alone is warned of."""
    parts = x.split(batch_size)
    with evaluating(*models):
        clean = {j: _outputs(models[j], parts) for j in sorted({j for _, j in wanted})}
        again = {j: outputs_of(models[j], halved(parts[0])) for j in clean} if tried else {}
    for j, outputs in again.items():
        if why := unsteady(clean[j][: len(outputs)], outputs):
            warnings.warn(f"model {j + 1} of {len(models)}: {why}", UnsteadyModelWarning, stacklevel=4)
    with evaluating(*models, gradients=True):
        deltas = {i: _perturbation(attack(models[i], x.clone()), x) for i in sorted({i for i, _ in wanted})}
    with evaluating(*models):
        return {(i, j): _outputs(models[j], (x + deltas[i]).split(batch_size)) - clean[j] for i, j in wanted}


def _outputs(model: Model, batches: Iterable[Tensor]) -> Tensor:
    return torch.cat([outputs_of(model, batch) for batch in batches])


def _accumulate(
    models: Sequence[Model],
    x: Tensor | Batches,
    attack: Attack,
    batch_size: int,
    pairs: list[tuple[int, int]],
) -> dict[tuple[int, int], Transferability]:
    """The metrics of some ordered pairs (attacked, evaluated); each model is attacked once per batch."""
    batch_size = as_count("batch_size", batch_size)
    _check_callable(models)
    # A pair (i, j) needs model j under the attacks on i and on j, and model i under its own.
    forwards = {*pairs, *((i, i) for pair in pairs for i in pair)}
    totals = {pair: Accumulator() for pair in pairs}
    batches = x.split(batch_size) if isinstance(x, Tensor) else map(_inputs, _batches(x))
    for number, batch in enumerate(batches):
        check_batch("x", batch)
        moved = _moved(models, batch, attack, forwards, len(batch), tried=number == 0)
        for i, j in pairs:
            totals[i, j].update(moved[i, i], moved[i, j], moved[j, j])
    return {pair: total.compute() for pair, total in totals.items()}


def _batches(x: Batches) -> Batches:
    """`x`, if it gives batches."""
    given = [part.ndim if isinstance(part, Tensor) else 0 for part in x] if isinstance(x, list | tuple) else []
    if len(given) == 2 and given[1] == 1 < given[0]:
        raise TypeError(
            f"x is a {type(x).__name__} of inputs and labels; expected the inputs, or an iterable of batches"
        )
    if isinstance(x, Dataset) and not isinstance(x, IterableDataset):
        raise TypeError(f"x is {type(x).__name__}, which gives single samples; expected batches: pass DataLoader(x)")
    if not isinstance(x, Iterable):
        raise TypeError(f"x is {type(x).__name__}; expected a tensor, or an iterable of batches")
    return x


def _inputs(batch: Tensor | Sequence[Tensor]) -> Tensor:
    """The inputs of a batch of a `DataLoader`, which come before the labels."""
    if isinstance(batch, Mapping):
        names = ", ".join(map(repr, batch))
        raise TypeError(
            f"a batch is {type(batch).__name__} with {names}; expected a tensor, or a tuple that begins with one: pass "
            f"(batch[{next(iter(batch), 'x')!r}] for batch in x), with the name of the inputs"
        )
    if not isinstance(batch, tuple | list) or not batch:
        return batch  # type: ignore[return-value]
    x, *others = batch
    for other in others:
        if isinstance(other, Tensor) and isinstance(x, Tensor) and _may_be_input(other, x):
            warnings.warn(
                f"a batch has inputs of shape {tuple(x.shape)} and then {tuple(other.shape)}, which the models do not "
                "get; if it is an input, such as a mask, bind it to the models: see Accumulator",
                stacklevel=4,
            )
    return x


def _may_be_input(other: Tensor, x: Tensor) -> bool:
    """Whether a member of a batch has the shape of a second input: that of x, or of a mask (N, L) of x (N, L, h)."""
    return other.ndim > 1 and (other.shape == x.shape or (x.ndim == 3 and other.shape == x.shape[:2]))


def _perturbation(delta: Tensor, x: Tensor) -> Tensor:
    """Return what an attack gave, if it has the shape and dtype of x: nothing is silently broadcast or converted."""
    if not isinstance(delta, Tensor) or delta.shape != x.shape or delta.dtype != x.dtype:
        given = f"{delta.dtype} of shape {tuple(delta.shape)}" if isinstance(delta, Tensor) else type(delta).__name__
        raise ValueError(f"the attack gave {given}; expected a perturbation like x, {x.dtype} of {tuple(x.shape)}")
    check_batch("the attack's perturbation", delta)
    if (delta - x).norm() < 0.5 * delta.norm():  # no small change of an image looks like the image
        warnings.warn("the attack may have given x + δ, for it is close to x; expected δ", stacklevel=5)
    return delta
