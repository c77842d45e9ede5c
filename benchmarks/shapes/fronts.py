"""Shape 4: what each method pays in retain loss for what it gains in forget loss.

Every method walks from the same weights, over the whole forget set and the same retain minibatches, at the same number
of rates; its front is what is best among all points of its walks. HAMU takes its own plain steps, the peers AdamW's
along gradients clipped to norm 1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from benchmarks.shapes.problems import Problem
from benchmarks.shapes.workbench import bench_of
from core.hamu import HAMU
from core.hamu.baselines.gradients import shortened
from core.unlearning.bench import Bench
from core.unlearning.guard import Baseline
from core.unlearning.job import Parameters
from core.unlearning.peer import Sides, peer_module
from core.unlearning.peers import PEERS

METHODS = ("hamu-q", "hamu-u", *PEERS)
_LOOKS = 4
WORST_RISE = 1.0
"""Nats of retain loss: whatever costs more does not count."""


@dataclass(frozen=True, slots=True)
class Point:
    """One moment of a walk: how much forget and retain loss have risen since the start, in nats."""

    method: str
    rate: float
    step: int
    gain: float
    cost: float


def walks(problem: Problem, model: nn.Module, method: str, rho: float, *, epochs: int) -> list[Point]:
    """The points of a method's walks, at all rates; the weights end as they began.

    epochs: of ``retrain``, whose walk has one point, its end, at the rate of the training.
    """
    split = problem.split(rho, most=problem.size.front_forget)
    bench = bench_of(problem, model, *split, measured=problem.size.looked_at)
    start = bench.copy_weights()
    before = Baseline(*(bench.score(examples) for examples in (bench.forget, bench.retain, bench.holdout)))
    points: list[Point] = []
    for rate in _rates(problem, method):
        for step in _walk(problem, bench, before, method, rate, epochs):
            gain = bench.score(bench.forget).loss - before.forget.loss
            cost = bench.score(bench.retain).loss - before.retain.loss
            points.append(Point(method, rate, step, gain, cost))
        bench.restore_weights(start)
    return points


def area(points: Sequence[Point], *, cap: float) -> float:
    """Share of the box (0 to ``cap`` gained, 0 to 1 nat paid) that some point dominates; in [0, 1].

    A point that costs nothing, or improves the retain loss, dominates the whole height up to its gain.
    """
    gained, total = 0.0, 0.0
    for point in sorted(points, key=lambda point: (point.cost, -point.gain)):
        reach = min(max(point.gain, 0.0), cap)
        if reach > gained and point.cost < WORST_RISE:
            total += (reach - gained) * (WORST_RISE - max(point.cost, 0.0))
            gained = reach
    return total / (cap * WORST_RISE)


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one of them matches or beats in both, by rising gain."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (-point.gain, point.cost)):
        if not best or point.cost < best[-1].cost:
            best.append(point)
    return best[::-1]


def _rates(problem: Problem, method: str) -> Sequence[float]:
    if method == "retrain":
        return (problem.size.peak,)
    return problem.size.hamu_rates if method.startswith("hamu") else problem.size.peer_rates


def _walk(problem: Problem, bench: Bench, before: Baseline, method: str, rate: float, epochs: int) -> Iterator[int]:
    """Takes the steps, and yields the number of those taken whenever it is time to look."""
    step, steps = _stepper(bench, before, method, rate, epochs)
    steps = steps or problem.size.front_steps
    looks = {steps} if method == "retrain" else {round(steps * (i + 1) / _LOOKS) for i in range(_LOOKS)}
    for number, batch in enumerate(islice(bench.retain_batches, steps)):
        step(number, bench.batch(batch))
        if number + 1 in looks:
            yield number + 1


def _stepper(
    bench: Bench, before: Baseline, method: str, rate: float, epochs: int
) -> tuple[Callable[[int, list], None], int | None]:
    weights = list(bench.model.trainable.values())
    if method.startswith("hamu"):
        return _hamu(bench, weights, method, rate), None
    parameters = Parameters(method=method, learning_rate=rate, epochs=epochs)
    peer = peer_module(method).build(Sides(bench, before, parameters))
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)

    def step(number: int, batch: list) -> None:
        for weight, gradient in zip(weights, shortened(peer.gradients(batch), 1.0, 1e-12), strict=True):
            weight.grad = gradient
        optimizer.param_groups[0]["lr"] = rate * peer.rate(number)
        optimizer.step()
        optimizer.zero_grad()

    return step, peer.steps


def _hamu(bench: Bench, weights: list, method: str, rate: float) -> Callable[[int, list], None]:
    variant = "q" if method == "hamu-q" else "u"
    optimizer = HAMU(weights, rate, variant=variant, stop_rule="none", on_infeasible="clip")

    def step(_: int, batch: list) -> None:
        optimizer.step(
            retain_loss=lambda: bench.mean_loss(batch),
            forget_loss=lambda: bench.forget_pass(lambda losses, _: losses)[0],
        )
        optimizer.release()

    return step
