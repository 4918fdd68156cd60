r"""Transferability estimators of the field: scores of features or predictions on the samples of a target task.

A score takes what a source model makes of N samples of the target task, and their labels; no score trains the source
further. It is larger where the source is expected to transfer better. Scores of different models are comparable only
for the same samples; :func:`estimate` adds an interval, and the floor that the score has with permuted labels.

All scores compute in float64, on the device of their inputs. Labels may be any integers: they are names only, so that a
number that does not occur is not a class. :func:`n_leep` and :func:`probe` compute on the CPU, with scikit-learn, which
comes with the extra ``rank``.

No score takes features that are not a floating-point tensor of shape (N, D) or labels that are not a tensor of N
integers (``TypeError`` for wrong types, ``ValueError`` for wrong shapes), values that are not finite, no samples,
features that are the same for all samples, or labels of one class only (``ValueError``).
"""

from advtransfer.scores.classifiers import knn, probe
from advtransfer.scores.coding import transrate
from advtransfer.scores.covariance import h_score
from advtransfer.scores.evidence import logme
from advtransfer.scores.likelihood import leep, n_leep, nce
from advtransfer.scores.overlap import gbc
from advtransfer.scores.similarity import cka, parc
from advtransfer.scores.uncertainty import Estimate, estimate

__all__ = [
    "Estimate",
    "cka",
    "estimate",
    "gbc",
    "h_score",
    "knn",
    "leep",
    "logme",
    "n_leep",
    "nce",
    "parc",
    "probe",
    "transrate",
]
