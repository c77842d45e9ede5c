"""Shape 1: κ grows in a straight line with the share ρ of the forget set that is like what is retained.

κ is the ledger's, of gradients clipped to norm 1: where both are longer, it is a cosine. Without clipping a straight
line is not to be expected: what is swapped out of the forget set is retained, so r shrinks as ρ grows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from benchmarks.shapes.problems import Problem
from benchmarks.shapes.workbench import bench_of, fixed_losses
from core.hamu import HAMU

RHOS = tuple(i / 10 for i in range(11))


@dataclass(frozen=True, slots=True)
class Point:
    """Hardness at one ρ, for one draw of the records that are swapped."""

    rho: float
    draw: int
    kappa: float
    unclipped: float
    """κ of the gradients as they are."""
    forget_loss: float
    retain_loss: float


def kappa_against_rho(problem: Problem, model: nn.Module) -> list[Point]:
    """Hardness at eleven mixing ratios for each of the problem's draws; the weights stay as they are."""
    return [_point(problem, model, rho, draw) for rho in RHOS for draw in range(problem.size.draws)]


def _point(problem: Problem, model: nn.Module, rho: float, draw: int) -> Point:
    bench = bench_of(problem, model, *problem.split(rho, seed=draw), measured=problem.size.retain)
    optimizer = HAMU(model.parameters())
    row = {
        k: v for k, v in optimizer.assess(**fixed_losses(bench, problem.size.retain)).row().items() if k != "verdict"
    }
    optimizer.release()
    numbers = {name: float(value or 0.0) for name, value in row.items()}
    unclipped = numbers["kappa"] / (numbers["retain_clip"] * numbers["forget_clip"])
    return Point(rho, draw, numbers["kappa"], unclipped, numbers["forget_loss"], numbers["retain_loss"])


def mean_by_rho(points: Sequence[Point], what: str) -> list[float]:
    """The mean over the draws of ``kappa`` or ``unclipped``, in the order of ``RHOS``."""
    return [float(np.mean([getattr(point, what) for point in points if point.rho == rho])) for rho in RHOS]


def pearson(x: Sequence[float], y: Sequence[float]) -> float:
    """Correlation of two rows of numbers; nan when one of them does not vary."""
    if np.std(x) == 0 or np.std(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
