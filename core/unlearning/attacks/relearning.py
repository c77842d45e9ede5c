"""Teach the model a tenth of a set again and watch the rest: does the forgotten come back with a few examples?

What was only covered up returns faster than never-seen records are learned (Hu et al., arXiv 2406.13356). The same
lesson on never-seen records is the control. Each lesson takes ``STEPS`` normalised gradient steps on its tenth; they
are as long, together, as the way the run went, but at most ``LONGEST`` of the weights' norm: an attacker who may undo
as much as was done, without a learning rate that one model likes and another does not. Cost: ``STEPS`` passes with
gradients over the tenth, and one forward pass more over the rest for each.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.unlearning.batches import ExampleSet
from core.unlearning.bench import Bench, Weights

STEPS = 10
SHARE = 0.1
"""Of a set, to be taught again."""
LONGEST = 0.02
"""Of the weights' norm: the whole way of a lesson, if the run went further."""


@dataclass(frozen=True, slots=True)
class Split:
    """A set cut in two: what is taught again, and the rest, which is examined."""

    lesson: ExampleSet
    exam: ExampleSet


def split(examples: ExampleSet, *, taught: int, examined: int, rng: np.random.Generator) -> Split:
    """``taught`` records drawn from ``examples``, and at most ``examined`` of the others."""
    order: NDArray[np.int64] = rng.permutation(len(examples))
    return Split(examples.take(order[:taught]), examples.take(order[taught : taught + examined]))


def taught_of(records: int) -> int:
    """How many of ``records`` are taught again: a tenth, and one at least."""
    return max(1, round(SHARE * records))


def way(model_weights: Mapping[str, Tensor], displacement: float) -> float:
    """The length of a lesson in weight space, for a run that moved the weights by ``displacement``."""
    norm = math.sqrt(math.fsum(float(weight.detach().double().square().sum()) for weight in model_weights.values()))
    return min(displacement, LONGEST * norm)


def relearn(bench: Bench, halves: Split, *, length: float) -> NDArray[np.float64]:
    """Each exam record's loss in nats before the lesson and after each of its steps, shape (records, STEPS + 1).

    length: of the lesson's whole way. The weights end as they began. Raises ``Cancelled`` between forward passes.
    """
    start = bench.copy_weights()
    try:
        return np.stack(list(_lesson(bench, halves, length / STEPS)), axis=1, dtype=np.float64)
    finally:
        _put_back(bench, start)


def _lesson(bench: Bench, halves: Split, stride: float) -> Iterator[NDArray[np.floating]]:
    batches = list(bench.batches(halves.lesson))
    weights = list(bench.model.trainable.values())
    yield bench.score(halves.exam).losses
    for _ in range(STEPS):
        bench.mean_loss(batches)
        _descend(weights, stride)
        yield bench.score(halves.exam).losses


@torch.no_grad()
def _descend(weights: list[torch.nn.Parameter], stride: float) -> None:
    gradients = [weight.grad for weight in weights]
    norm = math.sqrt(math.fsum(float(grad.double().square().sum()) for grad in gradients if grad is not None))
    for weight, gradient in zip(weights, gradients, strict=True):
        if gradient is not None and norm > 0:
            weight.sub_(gradient, alpha=stride / norm)
        weight.grad = None


def _put_back(bench: Bench, start: Weights) -> None:
    for weight in bench.model.trainable.values():
        weight.grad = None
    bench.restore_weights(start)
