"""SCRUB (arXiv 2302.09880): stay near the original model on retain data, leave it on forget data."""

from core.hamu.baselines.gradients import Gradients, Result, weighted_sum


def scrub(retain: Gradients, retain_kl: Gradients, forget_kl: Gradients, *, alpha: float, gamma: float) -> Result:
    """(alpha r_kl + gamma r - f_kl) / 2: the KL gradients are of KL(original ‖ current) on each batch."""
    kept = weighted_sum(retain_kl, retain, alpha / 2, gamma / 2)
    return weighted_sum(kept, forget_kl, 1.0, -0.5)
