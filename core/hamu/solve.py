"""The step itself: a two-dimensional problem a block, solved in closed form.

Source: arXiv 2606.02119. For an objective gradient a and a constraint gradient b, a radius R and a quota Q,

    minimise a·Δ   subject to   b·Δ ≥ Q ,  ‖Δ‖ ≤ R .

HAMU-Q is (a, b) = (r, f): least retain damage for a promised forget gain. HAMU-U is (a, b) = (-f, -r): most
forgetting for a promised retain improvement. Every branch is a linear combination Δ = x b + y a, so gradients never
appear here: only their norms and their cosine c. With s = √(1 - c²) and q = Q/(R‖b‖), the quota as a share of the
most a step of length R can gain:

    infeasible   q > 1       Δ = (R/‖b‖) b                                       the longest step towards the quota
    direct       c ≤ -q      Δ = -(R/‖a‖) a                                      it gains enough as it is
    colinear     s ≈ 0       Δ = (Q/‖b‖²) b                                      a has no part that is orthogonal to b
    rectified    otherwise   Δ = (R/‖b‖)(q + √(1 - q²) c/s) b - (R/‖a‖)(√(1 - q²)/s) a

The last line is the paper's (Q/‖b‖²) b - √(R² - Q²/‖b‖²) a⊥/‖a⊥‖ with a⊥ = a - (a·b/‖b‖²) b written out. Nothing in
it depends on the scale of a gradient, so there is no absolute epsilon anywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

COLINEAR_SINE = 1e-5
"""Below this sine a pair counts as parallel. The sideways part that is then left out would lower a·Δ by at most this
share of R‖a‖. Above it float64 sums give ‖a⊥‖ to about 1e-6, which keeps ‖Δ‖ at R to the precision of float32."""

FEASIBLE_SLACK = 1e-9
"""A quota may exceed the reach by this share and still count as feasible: rounding, when the dial is turned to 1."""


class Branch(IntEnum):
    """Which line of the solution a block took. ABSENT: the block cannot move (no gradient, or a radius of zero)."""

    DIRECT = 0
    RECTIFIED = 1
    COLINEAR = 2
    INFEASIBLE = 3
    ABSENT = 4


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem a block; all (L,) float64 unless noted."""

    objective_norm: Tensor
    """‖a‖"""
    constraint_norm: Tensor
    """‖b‖"""
    dot: Tensor
    """κ = a·b = r·f, the hardness."""
    radius: Tensor
    """R, in units of weight."""
    quota: Tensor
    """Q, a first-order change of a (clipped) loss."""
    parts: Tensor
    """(T, 3): a·a, b·b, a·b of each tensor, for solvers that look inside a block."""
    block_of: Tensor
    """(T,) the block of each tensor."""

    @property
    def product(self) -> Tensor:
        """p = ‖a‖‖b‖"""
        return self.objective_norm * self.constraint_norm

    @property
    def reach(self) -> Tensor:
        """R‖b‖, the most that a step of length R can gain."""
        return self.radius * self.constraint_norm


@dataclass(frozen=True, slots=True)
class Solution:
    """Δ = x b + y a: ``along_constraint`` x and ``along_objective`` y, (T,) float64; ``branch`` (L,) of ``Branch``."""

    along_constraint: Tensor
    along_objective: Tensor
    branch: Tensor


Solver = Callable[[Problem], Solution]


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Elementwise quotient, 0 where the denominator is 0."""
    zero = denominator == 0
    return torch.where(zero, 0.0, numerator / torch.where(zero, 1.0, denominator))


def cosine(problem: Problem) -> Tensor:
    """(L,) cosine between a and b, in [-1, 1]; 0 where either vanishes."""
    return ratio(problem.dot, problem.product).clamp(-1.0, 1.0)


def quota_share(problem: Problem) -> Tensor:
    """(L,) q = Q/(R‖b‖): above 1 is infeasible. 0 without a quota, infinite for a quota that nothing can meet."""
    share = ratio(problem.quota, problem.reach)
    return torch.where((problem.reach == 0) & (problem.quota > 0), torch.inf, share)


def solve(problem: Problem) -> Solution:
    """The exact step of every block. ‖Δ‖ ≤ R always; b·Δ ≥ Q in every branch but ``INFEASIBLE``."""
    c, q = cosine(problem), quota_share(problem)
    s = ((1.0 - c) * (1.0 + c)).sqrt()
    direct, infeasible = q + c <= 0, q > 1.0 + FEASIBLE_SLACK
    colinear = (s < COLINEAR_SINE) | (problem.objective_norm == 0)

    forward = ratio(problem.radius, problem.constraint_norm)  # R/‖b‖
    back = ratio(problem.radius, problem.objective_norm)  # R/‖a‖
    q = q.clamp(max=1.0)
    sideways = ratio((1.0 - q * q).sqrt(), s)

    along_constraint = forward * (q + sideways * c)
    along_constraint = torch.where(colinear, forward * q, along_constraint)
    along_constraint = torch.where(direct, 0.0, along_constraint)
    along_constraint = torch.where(infeasible, forward, along_constraint)
    along_objective = torch.where(colinear, 0.0, -back * sideways)
    along_objective = torch.where(direct, -back, along_objective)
    along_objective = torch.where(infeasible, 0.0, along_objective)

    branch = torch.full_like(problem.block_of.new_empty(c.shape), Branch.RECTIFIED)
    branch = branch.masked_fill(colinear, Branch.COLINEAR).masked_fill(direct, Branch.DIRECT)
    branch = branch.masked_fill(infeasible, Branch.INFEASIBLE).masked_fill(absent(problem) & ~infeasible, Branch.ABSENT)
    return Solution(along_constraint[problem.block_of], along_objective[problem.block_of], branch)


def absent(problem: Problem) -> Tensor:
    """(L,) blocks that cannot move and are asked for nothing."""
    still = (problem.radius == 0) | ((problem.objective_norm == 0) & (problem.constraint_norm == 0))
    return still & (problem.quota == 0)
