"""Min-K %++: Min-K % of log-probabilities that are measured against what the model found possible at each token.

A token's score is (log p − μ) / σ, where μ and σ are mean and standard deviation of the log-probability of a token
drawn from the model's own distribution at that place: μ = Σ p log p, σ² = Σ p (log p)² − μ². Trained text tends to lie
on a mode, so its score is high. Direction: higher looks more like a member; its AUC is wanted at 0.5.

Source: Zhang et al., arXiv 2404.02936. Cost: μ and σ are one more sum over the vocabulary in the forward pass.
"""

import numpy as np
from numpy.typing import NDArray

from core.evaluation.min_k import SHARE, min_k

LEAST_SPREAD = 1e-4
"""Nats. Where the model is certain both numerator and σ vanish; this keeps rounding from deciding."""


def min_k_plus(
    log_probs: NDArray[np.floating],
    means: NDArray[np.floating],
    deviations: NDArray[np.floating],
    *,
    share: float = SHARE,
) -> float:
    """Score of one record from log p, μ and σ of its scored tokens, (tokens,) each; nan as ``min_k``."""
    spread = np.maximum(deviations.astype(np.float64), LEAST_SPREAD)
    return min_k((log_probs.astype(np.float64) - means) / spread, share=share)
