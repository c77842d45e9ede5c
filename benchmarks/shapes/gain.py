"""Shape 2: after T steps at rate η the forget loss has risen by T·Q, so against Q/η the slope is T·η.

To first order, and where the constraint binds: a small quota asks for less than the retain step gains by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from benchmarks.shapes.problems import Problem
from benchmarks.shapes.workbench import Losses, bench_of, fixed_losses
from core.hamu import HAMU

SHARES = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75)
"""Of S at the start: the quotas that are tried."""
_BINDS = 1.02


@dataclass(frozen=True, slots=True)
class Point:
    """One quota, T steps: what was asked for, what was promised (f·Δ) and what came of it, in nats."""

    quota: float
    """Q/η."""
    asked: float
    """T·Q."""
    promised: float
    realised: float
    feasible: bool
    """Whether every step could gain its quota."""

    @property
    def binds(self) -> bool:
        """Whether the quota decided the step, and not the retain gradient."""
        return self.feasible and self.promised <= _BINDS * self.asked


def gain_against_quota(problem: Problem, model: nn.Module, *, rho: float = 0.5) -> list[Point]:
    """Gains at six fixed quotas, each from the same weights and without clipping; the weights end as they began."""
    bench = bench_of(problem, model, *problem.split(rho), measured=problem.size.retain)
    losses = fixed_losses(bench, problem.size.retain)
    start = bench.copy_weights()
    capacity = float(HAMU(model.parameters(), max_grad_norm=None).assess(**losses).hardness.S)
    points: list[Point] = []
    for share in SHARES:
        points.append(_walk(problem, model, losses, share * capacity))
        bench.restore_weights(start)
    return points


def _walk(problem: Problem, model: nn.Module, losses: Losses, quota: float) -> Point:
    rate, steps = problem.size.gain_rate, problem.size.gain_steps
    optimizer = HAMU(
        model.parameters(), rate, fixed_quota=quota * rate, max_grad_norm=None, stop_rule="none", on_infeasible="clip"
    )
    taken = [optimizer.step(**losses) for _ in range(steps)]
    end = float(optimizer.assess(**losses).forget_loss)
    optimizer.release()
    return Point(
        quota=quota,
        asked=steps * quota * rate,
        promised=sum(float(step.promised_forget_gain) for step in taken),
        realised=end - float(taken[0].forget_loss),
        feasible=all(float(step.branch_shares()["infeasible"]) == 0 for step in taken),
    )


@dataclass(frozen=True, slots=True)
class Line:
    """A least-squares line through the points where the constraint binds."""

    slope: float
    expected: float
    """T·η."""
    r_squared: float
    points: int


def fitted(points: Sequence[Point], *, steps: int, rate: float) -> Line:
    """Realised gain against Q/η where the constraint binds; nan with fewer than three points."""
    binding = [point for point in points if point.binds]
    if len(binding) < 3:
        return Line(float("nan"), steps * rate, float("nan"), len(binding))
    x = np.array([point.quota for point in binding])
    y = np.array([point.realised for point in binding])
    slope, offset = np.polyfit(x, y, 1)
    rest = ((y - slope * x - offset) ** 2).sum()
    return Line(float(slope), steps * rate, float(1 - rest / ((y - y.mean()) ** 2).sum()), len(binding))
