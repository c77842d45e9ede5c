"""Gradient ascent held back by the divergence from the original model on retain data."""

from core.hamu.baselines.gradients import Gradients, Result, weighted_sum


def kl(retain_kl: Gradients, forget: Gradients) -> Result:
    """(r_kl - f) / 2 with r_kl the gradient of KL(original ‖ current) on the retain batch."""
    return weighted_sum(retain_kl, forget, 0.5, -0.5)
