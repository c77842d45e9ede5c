"""How hard it is to forget here: S, C, κ and what follows from them.

Everything is first order and in the units of the clipped gradients. Problems are posed for a rate of 1, so R and Q
stand for R/η and Q/η. With p_i = ‖r_i‖‖f_i‖ and R_i = ‖a_i‖:

    S = Σ R_i‖b_i‖ = Σ p_i                                  the most that can be gained
    C = Σ_{κ_i≤0} p_i + Σ_{κ_i>0} √(p_i² - κ_i²)            what can be gained without hurting the other goal

Q ≤ C: no first-order cost is forced on the objective. C < Q ≤ S: some is. Above S the quota is out of reach.
With a fixed radius the rate is 1 and R_i‖b_i‖ stands for p_i in both sums.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from core.hamu.solve import FEASIBLE_SLACK, Problem, absent, cosine, quota_share, ratio

StopRule = Literal["sign_aware", "two_sided", "none"]
Verdict = Literal["easy", "hard", "irreconcilable"]
VERDICTS: tuple[Verdict, ...] = ("easy", "hard", "irreconcilable")


@dataclass(frozen=True, slots=True)
class Hardness:
    """0-d float64 tensors, over the whole model."""

    S: Tensor
    C: Tensor
    quota: Tensor
    """Q, the promised gain of a step in units of the clipped loss (Q/η is what compares with S and C)."""
    kappa: Tensor
    """Σ κ_i = Σ r_i·f_i"""
    kappa_1: Tensor
    """-Σ Q_i‖a_i‖/R_i: at or below it (block by block) the plain objective step gains enough."""
    kappa_2: Tensor
    """Σ √(p_i² - (Q_i‖a_i‖/R_i)²): above it (block by block) no step serves both goals."""
    cosine: Tensor
    """κ over the product of the two whole-model norms."""
    stopping_margin: Tensor
    """C - Q/η less the slack, C as the stop rule counts it: negative means that the rule stops the run."""
    verdict_code: Tensor
    """0-d integer, an index into ``VERDICTS``."""

    @property
    def verdict(self) -> Verdict:
        """``irreconcilable`` if C < Q/η, ``easy`` if no block needs rectifying, else ``hard``. Waits for the device.

        With one block these are the paper's κ > κ₂, κ ≤ κ₁ and in between.
        """
        return VERDICTS[int(self.verdict_code)]


def free_share(problem: Problem, rule: StopRule = "sign_aware") -> Tensor:
    """(L,) share of a block's reach that costs the objective nothing to first order.

    √(1 - c²) when the gradients point the same way and all of it when they oppose each other, for then both goals
    improve together. The published two-sided form takes √(1 - c²) in both cases and stops runs that are easy.
    """
    c = cosine(problem)
    sine = ((1.0 - c) * (1.0 + c)).sqrt()
    return sine if rule == "two_sided" else torch.where(c > 0, sine, 1.0)


def measure(problem: Problem, *, rate: float | Tensor, stop_rule: StopRule, stop_slack: float) -> Hardness:
    """Hardness of a problem that is posed for a rate of 1 and has its quotas. ``stop_slack`` is a share of S."""
    reach, quota = problem.reach.sum(), problem.quota.sum()
    capacity = (problem.reach * free_share(problem)).sum()
    counted = capacity if stop_rule != "two_sided" else (problem.reach * free_share(problem, "two_sided")).sum()
    threshold = ratio(problem.quota * problem.objective_norm, problem.radius)  # Q‖a‖/R
    easy = (cosine(problem) + quota_share(problem) <= 0) | absent(problem)
    # A quota equal to the capacity is still free; rounding must not turn it into a verdict.
    irreconcilable = quota > capacity * (1.0 + FEASIBLE_SLACK)
    norms = problem.parts[:, :2].sum(0).sqrt()
    return Hardness(
        S=reach,
        C=capacity,
        quota=quota * rate,
        kappa=problem.dot.sum(),
        kappa_1=-threshold.sum(),
        kappa_2=(problem.product.square() - threshold.square()).clamp(min=0).sqrt().sum(),
        cosine=ratio(problem.dot.sum(), norms[0] * norms[1]),
        stopping_margin=counted - quota - stop_slack * reach,
        verdict_code=torch.where(irreconcilable, 2, torch.where(easy.all(), 0, 1)),
    )
