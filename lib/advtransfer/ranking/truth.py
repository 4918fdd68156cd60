"""What a ranking is judged by: the accuracy that a source reaches on the target's test images."""

import numpy as np
import torch
from torch import Tensor

from advtransfer.extras import require
from advtransfer.modes import one_thread

PENALTIES = (0.01, 0.1, 1.0)  # inverse strengths of the ℓ2 penalty, of which the best on held-out images is taken
HELD_OUT = 0.2


def probe(features: Tensor, labels: Tensor, unseen: Tensor, *, seed: int = 0) -> Tensor:
    """Train a linear classifier on frozen features, and classify the features of other images.

    It is a logistic regression with an ℓ2 penalty on standardised features, as in Kornblith et al. (2019). The strength
    of the penalty is the best of three on a fifth of the images that is held out; then all images are used. It is the
    middle one if there are too few images to hold some of every class out.

    Parameters
    ----------
    features
        (N, k), of the target's training images.
    labels
        (N,), 0 to C − 1.
    unseen
        (M, k), of the target's test images.
    seed
        Of the images that are held out.

    Returns
    -------
    Tensor
        Predicted labels (M,), int64.

    Examples
    --------
    >>> x = torch.arange(20.0)[:, None]
    >>> probe(x, (x[:, 0] > 9).long(), torch.tensor([[3.0], [15.0]])).tolist()
    [0, 1]
    """
    require("rank", "sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y, z = features.double().numpy(), labels.numpy(), unseen.double().numpy()
    counts = np.unique(y, return_counts=True)[1]
    size = max(round(HELD_OUT * len(y)), len(counts))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTIES[1], max_iter=2000, tol=1e-3))
    if counts.min() > 1 and size + len(counts) <= len(y):  # else there are too few to hold out some of every class
        split = StratifiedShuffleSplit(1, test_size=size, random_state=seed)
        model = GridSearchCV(model, {"logisticregression__C": PENALTIES}, cv=split)
    with one_thread():  # two took 2 to 8 times as long, at three sizes from 600 × 384 to 5,000 × 512
        return torch.from_numpy(model.fit(x, y).predict(z).astype("int64"))
