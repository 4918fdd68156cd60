"""What the attacks on texts ask of the logits of the attacked model."""

import math

from torch import Tensor
from torch.nn import functional as F

from advtransfer.checks import check_batch


def margin(logits: Tensor, label: Tensor) -> Tensor:
    """The logit of `label` (N,) less the largest other one, (N, d) -> (N,)."""
    real = logits.gather(1, label[:, None])  # (N, 1)
    own = F.one_hot(label, logits.shape[1]).bool()
    other = logits.masked_fill(own, -math.inf).amax(dim=1, keepdim=True)
    return (real - other).squeeze(1)


def check_logits(logits: Tensor, n: int) -> None:
    """Raise unless these are the finite logits (n, d) of n texts, of at least two classes.

    Raises
    ------
    TypeError, ValueError
        They are not.
    """
    check_batch("the model's logits", logits, ndim=2)
    if len(logits) != n or logits.shape[1] < 2:
        raise ValueError(f"the model's logits have shape {tuple(logits.shape)}; expected ({n}, d) with d at least 2")
