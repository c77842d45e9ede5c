"""Fine-tuning: go on learning the retain set and trust that the rest fades (catastrophic forgetting)."""

from core.unlearning.peer import Peer, Sides


def build(sides: Sides) -> Peer:
    """Descend along r; forget records are not looked at."""
    return Peer(sides.retain)
