"""How far a model's answers have moved from the original's, wrong and right ones alike.

KL(original ‖ current) = Σ p_o (log p_o − log p_c) over the classes or the vocabulary, in nats, for each answer; the
mean over a record's answers, then over records. Direction: small on retain, 0 = the same distribution; accuracy does
not see a model that became unsure. Cost: both models' log-probabilities of the answers compared.
"""

import numpy as np
from numpy.typing import NDArray


def kl_to_original(original: NDArray[np.floating], current: NDArray[np.floating]) -> NDArray[np.float64]:
    """KL of each answer, (answers,), from log-probabilities (answers, classes); what has no probability adds nothing.

    Infinite where the current model excludes what the original thought possible. Never below 0. For the mean with its
    interval, bootstrap the records' values.
    """
    before, now = original.astype(np.float64), current.astype(np.float64)
    with np.errstate(invalid="ignore"):
        terms = np.where(np.isneginf(before), 0.0, np.exp(before) * (before - now))
    return np.maximum(terms.sum(axis=1), 0.0)
