"""From the numbers of an assessment to a step: pose each block's problem, solve it, say what it promises."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from core.hamu.gram import Layout
from core.hamu.hardness import Hardness, StopRule, measure
from core.hamu.ledger import Assessment, Step
from core.hamu.quota import QuotaRule
from core.hamu.solve import Branch, Problem, Solver, ratio

Variant = Literal["q", "u"]

CLIP_EPSILON = 1e-6
"""Added to a norm before it divides ``max_grad_norm``, as ``torch.nn.utils.clip_grad_norm_`` does."""


@dataclass(frozen=True, slots=True)
class Partition:
    """How the T tensors that take part are stored and which of the L blocks each belongs to."""

    layout: Layout
    block_of: Tensor
    """(T,) block of a tensor."""
    members: Tensor | None
    """(L, T) float64, 1 where a tensor belongs to a block; None when each is a block of its own."""


@dataclass(frozen=True, slots=True)
class Dials:
    """What may change from step to step."""

    rate: float | Tensor
    quota_ratio: float


@dataclass(frozen=True, slots=True)
class Planner:
    """How an optimizer plans, as it was told once; ``HAMU`` says what each setting means."""

    variant: Variant
    quota_rule: QuotaRule
    radius: float | None
    radius_scope: Literal["total", "block"]
    max_grad_norm: float | None
    stop_rule: StopRule
    stop_slack: float
    on_infeasible: Literal["stop", "clip"]
    fixed_quota: float | None
    solver: Solver

    def plan(self, assessment: Assessment, partition: Partition, dials: Dials) -> Step:
        """The step that an assessment leads to at these dials."""
        clips = assessment.retain_clip, assessment.forget_clip
        problem = self.pose(assessment.parts, clips, partition, dials)
        hardness = self.measure(problem, dials)
        solution = self.solver(problem)
        rate = dials.rate
        along_forget, along_retain = (
            (solution.along_constraint, solution.along_objective)
            if self.variant == "q"
            else (-solution.along_objective, -solution.along_constraint)
        )
        along_forget, along_retain = along_forget * clips[1] * rate, along_retain * clips[0] * rate
        rr, ff, rf = assessment.parts.unbind(1)
        squared = along_forget.square() * ff + 2 * along_forget * along_retain * rf + along_retain.square() * rr
        return Step(
            assessment=assessment,
            hardness=hardness,
            promised_forget_gain=(along_forget * ff + along_retain * rf).sum(),
            predicted_retain_change=(along_forget * rf + along_retain * rr).sum(),
            branch=solution.branch,
            along_forget=along_forget,
            along_retain=along_retain,
            radius=problem.radius * rate,
            quotas=problem.quota * rate,
            update_norm=squared.clamp(min=0).sum().sqrt(),
            stop_code=self._stop_code(assessment, hardness, problem, solution.branch, dials),
            rate=rate,
        )

    def clip(self, norm: Tensor) -> Tensor:
        """What a gradient of this norm, 0-d, is multiplied with first."""
        if self.max_grad_norm is None:
            return torch.ones_like(norm)
        return (self.max_grad_norm / (norm + CLIP_EPSILON)).clamp(max=1.0)

    def pose(self, parts: Tensor, clips: tuple[Tensor, Tensor], partition: Partition, dials: Dials) -> Problem:
        """The problem of every block for a rate of 1, with clipped gradients: (a, b) = (r, f) or (-f, -r)."""
        rr, ff, rf = parts.unbind(1)
        rr, ff, rf = rr * clips[0] ** 2, ff * clips[1] ** 2, rf * clips[0] * clips[1]
        pairs = torch.stack((rr, ff, rf) if self.variant == "q" else (ff, rr, rf), dim=1)
        aa, bb, ab = by_block(pairs, partition).unbind(1)
        objective, nothing = aa.sqrt(), torch.zeros_like(aa)
        radius = self._radii(objective)
        free = Problem(objective, bb.sqrt(), ab, radius, nothing, pairs, partition.block_of)
        return replace(free, quota=self.quota_rule(free) * self._total_quota(free, dials))

    def _radii(self, objective: Tensor) -> Tensor:
        if self.radius is None:
            return objective
        if self.radius_scope == "block":
            return torch.full_like(objective, self.radius)
        return self.radius * ratio(objective, objective.square().sum().sqrt())

    def _total_quota(self, problem: Problem, dials: Dials) -> Tensor:
        """Q/η: a share of S, or the fixed quota over the rate."""
        if self.fixed_quota is None:
            return problem.reach.sum() * dials.quota_ratio
        return problem.reach.new_full((), self.fixed_quota) / dials.rate

    def measure(self, problem: Problem, dials: Dials) -> Hardness:
        """How hard the problem is at this rate."""
        return measure(problem, rate=dials.rate, stop_rule=self.stop_rule, stop_slack=self.stop_slack)

    def _stop_code(
        self, assessment: Assessment, hardness: Hardness, problem: Problem, branch: Tensor, dials: Dials
    ) -> Tensor:
        """0-d index into ``STOP_REASONS``; the gravest reason wins."""
        collateral = (hardness.stopping_margin < 0) & (self.stop_rule != "none")
        wanted = dials.quota_ratio if self.fixed_quota is None else self.fixed_quota
        infeasible = (problem.quota.sum() == 0) & (wanted > 0)  # no block can gain anything
        if self.on_infeasible == "stop":
            infeasible = infeasible | (branch == Branch.INFEASIBLE).any()
        device = hardness.S.device
        numbers = (assessment.retain_loss, assessment.forget_loss, assessment.parts.sum())
        finite = torch.stack([number.to(device, torch.float64) for number in numbers]).isfinite().all()
        code = torch.where(infeasible, 2, torch.where(collateral, 1, 0))
        return torch.where(finite, code, 3)


def by_block(parts: Tensor, partition: Partition) -> Tensor:
    """(L, 3) from (T, 3)."""
    return parts if partition.members is None else partition.members @ parts
