"""Gradient ascent: climb on the forget loss and nothing else."""

from core.unlearning.peer import Peer, Sides


def build(sides: Sides) -> Peer:
    """Descend along -f."""
    return Peer(lambda _: sides.forget(lambda losses, _: -losses))
