"""Gradient ascent held back by KL(original ‖ current) on retain data (Maini et al. 2024, arXiv 2401.06121)."""

from core.hamu.baselines import kl
from core.unlearning.peer import Peer, Sides


def build(sides: Sides) -> Peer:
    """Descend along (r_kl - f) / 2."""
    sides.remember_original()
    return Peer(lambda batch: kl(sides.retain_kl(batch), sides.forget()))
