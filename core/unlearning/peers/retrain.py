"""Retraining: new weights that never met the forget set. Exact, and the measure of all other methods."""

import copy
import math

import torch

from core.unlearning.batches import Batch
from core.unlearning.failures import UnlearningError
from core.unlearning.models import LoadedModel
from core.unlearning.peer import Peer, Result, Sides
from core.unlearning.seed import make_deterministic

_WARM_UP = 0.1
"""Share of the steps in which the learning rate rises; after that it falls to nothing along a cosine."""


def build(sides: Sides) -> Peer:
    """Weights drawn anew from the config with the run's seed, then ``epochs`` of the retain set in training mode.

    Every weight and statistic is drawn anew, frozen ones included. Raises ``UnlearningError`` for an adapter: its base
    may have met the forget set.
    """
    model, parameters = sides.bench.model, sides.parameters
    if model.is_adapter:
        message = "The method 'retrain' needs full weights: what an adapter's base has met cannot be taken back by it."
        raise UnlearningError("bad_parameters", message)
    make_deterministic(parameters.seed)
    redraw(model)
    steps = sides.bench.retain_batches.steps(parameters.epochs)

    def gradients(batch: list[Batch]) -> Result:
        model.model.train()
        try:
            return sides.retain(batch)
        finally:
            model.model.eval()

    return Peer(gradients, steps=steps, rate=lambda step: warm_cosine(step, steps))


@torch.no_grad()
def redraw(model: LoadedModel) -> None:
    """Give every weight and buffer what a new model of the same config has; torch's generator decides."""
    fresh = type(model.model)(copy.deepcopy(model.config))
    model.model.load_state_dict(fresh.state_dict())


def warm_cosine(step: int, steps: int) -> float:
    """Share of the learning rate at ``step`` (from 0) of ``steps``."""
    warm = max(1, round(_WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2
