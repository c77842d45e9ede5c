"""Gradient difference: descend on the retain loss and climb on the forget loss with equal weight."""

from core.hamu.baselines.gradients import Gradients, Result, weighted_sum


def gdiff(retain: Gradients, forget: Gradients) -> Result:
    """(r - f) / 2"""
    return weighted_sum(retain, forget, 0.5, -0.5)
