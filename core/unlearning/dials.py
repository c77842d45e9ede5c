"""The settings of a run that nobody turns: how far a step may go, and which quota it may ask for."""

from core.hamu import TrustRegion

ACCEPT_SHARE = 0.25
"""A step is kept only if the whole forget set's objective rose by at least this share of what it promised."""

FREE_SHARE = 0.9
"""The quota stays below this share of what can be had without retain cost."""

LEAST_QUOTA = 0.05
"""Quota of a repair step, and the lowest of a forget step: if even that is not free, the stop rule ends the run."""

RETAIN_DRIFT = 0.05
"""Retain loss may rise by this share of the way from forget loss to yardstick before every other step repairs it."""

REGION = TrustRegion(accept_share=ACCEPT_SHARE, retain_share=0.05, growth=1.6, leap=0.25)


def usable_quota(wanted: float, *, capacity: float, free_capacity: float) -> float:
    """The quota ratio that a step asks for: ``wanted``, kept below what is free of retain cost, down to the least.

    capacity: S, the most that a step could gain. free_capacity: C, what it could gain without retain cost.
    """
    free = free_capacity / capacity if capacity else 0.0
    return max(min(wanted, FREE_SHARE * free), min(wanted, LEAST_QUOTA))
