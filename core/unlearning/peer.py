"""What a peer method is, and what it can be made of."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Protocol, cast

from torch import Tensor

from core.hamu.baselines.gradients import Result, weighted_sum
from core.unlearning.batches import Batch
from core.unlearning.bench import Bench, Values
from core.unlearning.failures import UnlearningError
from core.unlearning.guard import Baseline
from core.unlearning.job import Parameters
from core.unlearning.peers import PEERS
from core.unlearning.teacher import Teacher

__all__ = ["Peer", "PeerModule", "Result", "Sides", "Values", "peer_module"]


@dataclass(frozen=True, slots=True)
class Peer:
    """One method: the gradient of each step, and how long it goes on."""

    gradients: Callable[[list[Batch]], Result]
    """From a retain minibatch to what a step descends along, one tensor a trained weight; None stands for zero."""
    steps: int | None = None
    """How many steps it takes, whatever the losses say; None for a method that ends at the target."""
    rate: Callable[[int], float] = lambda _: 1.0
    """Share of the learning rate at a step, from 0."""


@dataclass(frozen=True)
class Sides:
    """Gradients of the retain side (one minibatch) and of the forget side (the whole set), in evaluation mode.

    They are lists with one tensor a trained weight. KL is KL(original ‖ current) over a record's answers, their mean.
    """

    bench: Bench
    baseline: Baseline
    parameters: Parameters

    def retain(self, batch: list[Batch]) -> Result:
        """r: of the mean retain loss."""
        self.bench.mean_loss(batch)
        return self._taken()

    def forget(self, values: Values = lambda losses, _: losses) -> Result:
        """f: of the mean forget loss, or of the mean of something else that ``values`` makes of the losses."""
        self.bench.forget_pass(values)
        return self._taken()

    def retain_kl(self, batch: list[Batch]) -> Result:
        """r_kl: of the divergence from the original model on the retain minibatch."""
        self.bench.minibatch_mean(batch, lambda part: self._teacher.divergence(self.bench.model.model, part))
        return self._taken()

    def forget_kl(self) -> Result:
        """f_kl: of the divergence from the original model on the forget set."""
        self.bench.forget_mean(lambda part, _: self._teacher.divergence(self.bench.model.model, part))
        return self._taken()

    def weighted(self, values: Values) -> Peer:
        """The peer that descends on the mean of ``values`` over the forget set + ``retain_weight`` · retain loss."""
        weight = self.parameters.retain_weight
        if weight == 0:
            return Peer(lambda _: self.forget(values))
        return Peer(lambda batch: weighted_sum(self.retain(batch), self.forget(values), weight, 1.0))

    def remember_original(self) -> None:
        """Copy the model as it is now; for a method that will ask how far it has gone from there."""
        _ = self._teacher

    @cached_property
    def _teacher(self) -> Teacher:
        return Teacher(self.bench.model.model, self.bench.family)

    def _taken(self) -> Result:
        """The gradients that a pass left behind, which are then gone."""
        weights = self.bench.model.trainable.values()
        gradients: list[Tensor | None] = [weight.grad for weight in weights]
        for weight in weights:
            weight.grad = None
        return gradients


class PeerModule(Protocol):
    """What every file in ``core/unlearning/peers`` holds."""

    def build(self, sides: Sides) -> Peer:
        """The method for one run. Called when the weights are still the original ones."""
        ...


def peer_module(name: str) -> PeerModule:
    """The method of that name. Raises ``UnlearningError`` if there is none."""
    if name not in PEERS:
        raise UnlearningError("bad_parameters", f"The method {name!r} is not known.")
    return cast("PeerModule", import_module(f"core.unlearning.peers.{name}"))
