"""Gradient difference (Liu et al. 2022, arXiv 2203.12817): descend on the retain loss, climb on the forget loss."""

from core.hamu.baselines import gdiff
from core.unlearning.peer import Peer, Sides


def build(sides: Sides) -> Peer:
    """Descend along (r - f) / 2."""
    return Peer(lambda batch: gdiff(sides.retain(batch), sides.forget()))
