"""Shape 3: the stop rule fires where the retain loss turns.

At a fixed Q/η a model that is still learning first improves on both sets. As the retain gradient shrinks, so does what
is free of retain cost; once C < Q/η the retain loss must rise.
"""

from dataclasses import dataclass

import numpy as np
from torch import nn

from benchmarks.shapes.problems import Problem
from benchmarks.shapes.workbench import bench_of, fixed_losses
from core.hamu import HAMU

QUOTA_SHARE = 0.5
"""Of S at the start."""


@dataclass(frozen=True, slots=True)
class Path:
    """A run that does not stop, step by step; gradients are clipped to norm 1."""

    retain: list[float]
    """Retain loss before each step, over a fixed set."""
    forget: list[float]
    margin: list[float]
    """C - Q/η at each step."""

    @property
    def stop(self) -> int | None:
        """The first step that the stop rule forbids; None if there is none."""
        return next((step for step, margin in enumerate(self.margin) if margin < 0), None)

    @property
    def turn(self) -> int:
        """The step at which the retain loss is least."""
        return int(np.argmin(self.retain))

    @property
    def turns(self) -> bool:
        """Whether the retain loss both falls and rises along the way."""
        return 0 < self.turn < len(self.retain) - 1

    @property
    def distance(self) -> float:
        """Steps between stop and turn as a share of all steps; nan when one of them is missing."""
        if self.stop is None or not self.turns:
            return float("nan")
        return abs(self.stop - self.turn) / len(self.retain)


def path(problem: Problem, model: nn.Module, *, rho: float = 0.5) -> Path:
    """HAMU-Q at a fixed quota for ``stop_steps`` steps, the rule written down and not obeyed.

    The weights end as they began.
    """
    bench = bench_of(problem, model, *problem.split(rho), measured=problem.size.retain)
    losses, start, rate = fixed_losses(bench, problem.size.retain), bench.copy_weights(), problem.size.stop_rate
    quota = QUOTA_SHARE * rate * float(HAMU(model.parameters()).assess(**losses).hardness.S)
    optimizer = HAMU(model.parameters(), rate, fixed_quota=quota, stop_rule="none", on_infeasible="clip")
    taken = [optimizer.step(**losses) for _ in range(problem.size.stop_steps)]
    optimizer.release()
    bench.restore_weights(start)
    return Path(
        retain=[float(step.retain_loss) for step in taken],
        forget=[float(step.forget_loss) for step in taken],
        margin=[float(step.hardness.stopping_margin) for step in taken],
    )
