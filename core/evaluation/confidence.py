"""The logit-scaled confidence of a classifier: log p − log(1 − p) of the right class, in nats.

Direction: higher looks more like a member. Records the model is sure of differ by orders of magnitude here, where
their probabilities are all 1. It rises exactly as the loss falls, so in ranks (AUC, true positive rate) it is the loss
attack, but for records whose loss float32 rounds to 0: those it still tells apart. Its distribution is near a normal
one, which makes it the better score to draw.

Source: Carlini et al., arXiv 2112.03570. Cost: a sum over the classes.
"""

import numpy as np
from numpy.typing import NDArray


def logit_confidence(log_probs: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Of log-probabilities (n, classes), classes ≥ 2, and labels (n,): (n,) scores.

    log(1 − p) is summed from the other classes: their log-probabilities are exact in float32 where that of a sure right
    class has rounded to 0. Infinite when the others have no probability at all. Adding a number to all of a record's
    log-probabilities, as in plain logits, changes nothing.
    """
    scores = log_probs.astype(np.float64)
    rows = np.arange(len(labels))
    right = scores[rows, labels]
    scores[rows, labels] = -np.inf
    highest = scores.max(axis=1, initial=-np.inf)
    shift = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):
        return right - (np.log(np.exp(scores - shift[:, None]).sum(axis=1)) + shift)
