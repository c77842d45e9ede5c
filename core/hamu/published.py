"""The published implementation's rules where they differ from ours, to reproduce its numbers.

Nothing else imports this module. Each rule plugs into the optimizer in place of ours:

    HAMU(params, lr, fixed_quota=..., quota=published.uniform, solver=published.Solve(rate=lr), stop_rule="two_sided",
         radius_scope="block", on_infeasible="clip")

What differs, with e an absolute epsilon: a quota not above e is met by a full-length sideways step on top of it; an
infeasible block moves by the whole (Q/‖b‖²) b, however far that is; whether a pair is parallel is asked of ‖a⊥‖ itself;
with whole-model numbers the sideways part is still brought to full length tensor by tensor; raw quotas are not brought
to a sum of Q; blocks that cannot gain are counted.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.hamu.solve import Branch, Problem, Solution

ROUNDING_SINE = 1e-7
"""A sine from float64 sums that is below this is rounding; the published test then sees an exact zero."""


def uniform(problem: Problem) -> Tensor:
    """1/L, blocks without gradient included."""
    return torch.full_like(problem.dot, 1.0 / problem.dot.numel())


def softmax(problem: Problem) -> Tensor:
    """share_i ∝ exp(-κ_i), blocks without gradient included."""
    return torch.softmax(-problem.dot, 0)


def gradient_norm_raw(problem: Problem) -> Tensor:
    """‖a_i‖‖b_i‖ itself, so that the quotas sum to Q Σ p_i."""
    return problem.product


def softmax_raw(problem: Problem) -> Tensor:
    """exp(-κ_i) itself."""
    return torch.exp(-problem.dot)


@dataclass(frozen=True, slots=True)
class Solve:
    """A ``Solver`` with the published branches.

    rate: η, because the epsilon is compared with quotas in units of loss. 1 with a fixed radius.
    One answer a tensor: with one block for the model, norms and κ are the model's and ‖a⊥‖ is the tensor's.
    ``Branch.INFEASIBLE`` includes the published ``zero_forget_grad``, where nothing moves.
    """

    rate: float = 1.0
    eps: float = 1e-12

    def __call__(self, problem: Problem) -> Solution:
        of, eps = problem.block_of, self.eps
        objective, constraint = problem.objective_norm[of], problem.constraint_norm[of]
        dot, radius, quota = problem.dot[of], problem.radius[of] * self.rate, problem.quota[of] * self.rate
        squared = constraint.square()
        tilt = dot / squared.clamp(min=eps)
        orthogonal = _orthogonal_norm(problem.parts, tilt)
        vanishing, no_quota = squared < eps, quota <= eps
        room = radius.square() - quota.square() / squared.clamp(min=eps)

        direct = dot * radius <= -quota * objective.clamp(min=eps)
        direct = torch.where(vanishing, no_quota, direct)
        infeasible = torch.where(vanishing, ~no_quota, room < 0)
        direct = direct & ~infeasible
        colinear = ~direct & ~infeasible & (orthogonal < eps)
        rectified = ~(direct | infeasible | colinear)

        side = torch.where(no_quota, radius, room.clamp(min=0).sqrt()) / orthogonal.clamp(min=eps)
        forward = torch.where(direct | vanishing, 0.0, quota / squared.clamp(min=eps))
        along_objective = torch.where(direct, -radius / objective.clamp(min=eps), torch.where(rectified, -side, 0.0))
        along_constraint = forward + torch.where(rectified, side * tilt, 0.0)

        branch = torch.full_like(of, Branch.RECTIFIED).masked_fill(direct, Branch.DIRECT)
        branch = branch.masked_fill(colinear, Branch.COLINEAR).masked_fill(infeasible, Branch.INFEASIBLE)
        return Solution(along_constraint / self.rate, along_objective / self.rate, branch)


def _orthogonal_norm(parts: Tensor, tilt: Tensor) -> Tensor:
    """(T,) ‖a - tilt b‖ of each tensor from its three sums."""
    aa, bb, ab = parts.unbind(1)
    squared = aa - 2 * tilt * ab + tilt.square() * bb
    scale = aa + tilt.square() * bb
    return torch.where(squared <= ROUNDING_SINE**2 * scale, 0.0, squared.clamp(min=0)).sqrt()
