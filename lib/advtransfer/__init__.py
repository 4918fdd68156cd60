"""Adversarial and knowledge transferability: attacks, metrics, matching and the paper's experiments.

``attacks``, ``spectral``, ``metrics``, ``matching``, ``certificates``, ``intervals``, ``concentration``,
``statistics``, ``scores`` and ``prepare`` take tensors and give tensors, and need only torch, numpy, scipy and
threadpoolctl; import what you need, e.g. ``from advtransfer import metrics``.
Everything else needs an extra, such as ``pip install 'advtransfer[experiments]'``.
"""

__version__ = "0.2.0"
