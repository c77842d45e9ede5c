"""PCGrad (Yu et al. 2020, arXiv 2001.06782) between the retain loss and the negated forget loss."""

from core.hamu.baselines import pcgrad
from core.unlearning.peer import Peer, Sides


def build(sides: Sides) -> Peer:
    """Descend along the mean of r and -f, each without its part against the other where they conflict (f·r > 0)."""
    return Peer(lambda batch: pcgrad(sides.retain(batch), sides.forget(), corrected_sign=True))
