r"""LEEP, NCE and N-LEEP: the likelihood of the labels, given a class of the source or a cluster of the features."""

import torch
from torch import Tensor

from advtransfer.checks import check_batch
from advtransfer.extras import require
from advtransfer.modes import one_thread
from advtransfer.scores.inputs import class_sums, labelled, numbered

# How far the sum of a row of probabilities may be from 1: what half precision and a thousand classes leave.
TOLERANCE = 1e-2


def leep(probabilities: Tensor, labels: Tensor) -> float:
    r"""The mean log-likelihood of the labels through the source's own classes (LEEP).

    With :math:`P_{iz}` the probability that the source gives its class z for sample i,

    .. math::
       \frac1N \sum_i \ln \sum_z \hat P(y_i | z)\, P_{iz}, \quad
       \hat P(y | z) = \sum_{i: y_i = y} P_{iz} \Big/ \sum_i P_{iz} .

    Parameters
    ----------
    probabilities
        P, shape (N, Z): the softmax of the source's outputs, not the outputs themselves.
    labels
        (N,) integers.

    Returns
    -------
    float
        Nats, at most 0; larger is better. The same samples give :math:`\hat P` and are judged by it, so the value is
        too high, but less so than that of :func:`nce`: compare it with that of permuted labels.

    Raises
    ------
    TypeError, ValueError
        Labels that no score takes (see :mod:`advtransfer.scores`); or rows that are not probabilities.

    Notes
    -----
    Nguyen et al. (2020), key ``nguyen2020``. Implementations that divide by the mass of each source class give NaN
    if a class has none (such as by underflow); such a class has no sample to speak for, and adds nothing here.

    Examples
    --------
    A source that is as sure as it is right, and one that knows nothing:

    >>> labels = torch.tensor([0, 0, 1, 1])
    >>> leep(torch.eye(2)[labels], labels), round(leep(torch.full((4, 2), 0.5), labels), 4)
    (0.0, -0.6931)
    """
    check_batch("probabilities", probabilities, ndim=2)
    p = probabilities.detach().double()
    sums = p.sum(1, keepdim=True)
    if (p < 0).any() or ((sums - 1).abs() > TOLERANCE).any():
        raise ValueError(
            f"probabilities span [{p.min():.4g}, {p.max():.4g}] with sums of rows in [{sums.min():.4g}, "
            f"{sums.max():.4g}]; expected rows of probabilities that sum to 1: pass the softmax of logits"
        )
    y, counts = numbered("labels", labels, len(p), p.device)
    if len(counts) < 2:
        raise ValueError(f"labels hold one class, {labels[0].item()}; expected at least two")
    p = p / sums
    joint = class_sums(p, y, len(counts))  # (C, Z)
    mass = joint.sum(0)
    given = torch.where(mass > 0, joint / mass, 0)
    # In two steps, for the ratio of two numbers near the least float64 can be zero or more than one.
    return ((given[y] * p).sum(1).clamp(max=1).log().mean()).item()


def nce(source_labels: Tensor, labels: Tensor) -> float:
    r"""The negative conditional entropy of the labels, given the labels that the source assigns (NCE).

    .. math::
       -H(y | z) = \sum_{y, z} \hat P(y, z) \ln \frac{\hat P(y, z)}{\hat P(z)} = I(y; z) - H(y)

    Parameters
    ----------
    source_labels
        z, (N,) integers: the class that the source predicts, such as the argmax of its outputs.
    labels
        y, (N,) integers.

    Returns
    -------
    float
        Nats, between -H(y) and 0; larger is better. With Z source classes it is too high, to first order by
        (C - 1) Z / (2N): with Z near N it says nothing.

    Raises
    ------
    TypeError, ValueError
        Labels that are not two tensors (N,) of integers, no samples, or only one class in `labels`.

    Notes
    -----
    Tran et al. (2019), key ``tran2019``. The conditioning matters: H(source | target) is another number. The code of
    PARC adds 1e-5 to every cell of the table, after which its numbers are not probabilities.

    Examples
    --------
    >>> nce(torch.tensor([5, 5, 7, 7]), torch.tensor([0, 0, 1, 1]))
    0.0
    >>> round(nce(torch.tensor([5, 7, 5, 7]), torch.tensor([0, 0, 1, 1])), 4)
    -0.6931
    """
    if not isinstance(source_labels, Tensor) or source_labels.ndim != 1 or len(source_labels) == 0:
        given = tuple(source_labels.shape) if isinstance(source_labels, Tensor) else type(source_labels).__name__
        raise ValueError(f"source_labels is {given}; expected a tensor of shape (N,) with at least one sample")
    z, sizes = numbered("source_labels", source_labels, len(source_labels))
    y, counts = numbered("labels", labels, len(z), z.device)
    if len(counts) < 2:
        raise ValueError(f"labels hold one class, {labels[0].item()}; expected at least two")
    pairs, each = (z * len(counts) + y).unique(return_counts=True)  # only cells that occur: no table of C × Z
    share = each.double() / sizes[pairs // len(counts)]
    return (each * share.log()).sum().item() / len(z) + 0.0  # no minus zero


def n_leep(
    features: Tensor, labels: Tensor, *, components_per_class: int = 5, variance: float = 0.8, seed: int = 0
) -> float:
    r"""LEEP with clusters of the features in place of the source's classes (N-LEEP).

    The features are projected to as many principal components as explain `variance`, a Gaussian mixture with full
    covariances is fitted to them, and :func:`leep` is computed from the posterior probabilities of its components.

    Parameters
    ----------
    features
        (N, D). A constant column adds nothing. The mixture adds 1e-6 to each variance, so features that vary by no more
        than about 0.01 must be scaled up.
    labels
        (N,) integers.
    components_per_class
        The mixture has this number times C components.
    variance
        The share of the variance to keep, between 0 and 1.
    seed
        Seed of the mixture's k-means start. Different seeds give different scores.

    Returns
    -------
    float
        Nats, at most 0; larger is better.

    Raises
    ------
    MissingExtraError
        scikit-learn is not installed.
    TypeError, ValueError
        Inputs that no score takes (see :mod:`advtransfer.scores`); a `variance` or a number of components out
        of range, or fewer samples than components.

    Notes
    -----
    Li et al. (2021), key ``li2021``. The code of ``stable_transfer`` has no projection, that of SFDA no logarithm.
    The principal components and the mixture are scikit-learn's.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> labels = torch.arange(60) % 2
    >>> apart = 9 * labels[:, None] + torch.randn(60, 3, generator=generator)
    >>> n_leep(apart, labels, components_per_class=1) > -0.01
    True
    """
    if components_per_class < 1 or not 0 < variance < 1:
        raise ValueError(
            f"components_per_class = {components_per_class}, variance = {variance}; expected at least 1, and a number "
            "between 0 and 1"
        )
    f, y, counts = labelled(features, labels)
    if (components := components_per_class * len(counts)) > len(f):
        raise ValueError(
            f"there are {len(f)} samples for {components} Gaussians ({components_per_class} for each of {len(counts)} "
            "classes); expected at least as many samples, or fewer components_per_class"
        )
    require("rank", "sklearn")
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    with one_thread():  # two took 3 to 11 times as long on a busy machine, at three sizes from 300 × 512 to 5,000 × 512
        projected = PCA(n_components=variance, svd_solver="full").fit_transform(f.cpu().numpy())
        posterior = GaussianMixture(components, random_state=seed).fit(projected).predict_proba(projected)
    return leep(torch.from_numpy(posterior), y.cpu())
