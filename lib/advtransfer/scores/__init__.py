r"""Transferability estimators of the field: scores of features or predictions on the samples of a target task.

A score takes what a source model makes of N target samples, and their labels. It is larger where the source is expected
to transfer better. No score trains the source further. Scores of different models are comparable only for the same
samples; :func:`estimate` adds an interval, and the floor that the score has with permuted labels.

All scores compute in float64, on the device of their inputs. Labels may be any integers: they are names only, so that a
number that does not occur is not a class. :func:`n_leep` and :func:`probe` need scikit-learn, which comes with the
extra ``rank``.
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
