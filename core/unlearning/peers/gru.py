"""GRU, gradient rectified unlearning (Wang et al. 2025, arXiv 2503.09117)."""

from core.hamu.baselines import gru
from core.unlearning.peer import Peer, Sides


def build(sides: Sides) -> Peer:
    """Descend along -f, without its part against r where the two conflict (f·r > 0)."""
    return Peer(lambda batch: gru(sides.retain(batch), sides.forget(), corrected_sign=True))
