"""Adversarial and knowledge transferability: attacks, metrics, matching and the paper's experiments.

The ground floor (``attacks``, ``spectral``, ``metrics``, ``matching``, ``estimators``, ``statistics``,
``prepare``) takes tensors and gives tensors; import what you need from it, e.g. ``from advtransfer import metrics``.
This file stays empty of imports: torch itself loads one module of this package (``torchvision_ops``).
"""

__version__ = "0.1.0"
