"""Our numbers in the terms of the published implementation: branch names, log fields and their tolerances."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.golden.check import Check
from core.hamu import Step
from core.hamu.hardness import free_share
from core.hamu.solve import Branch, Problem, cosine

NAMES = {Branch.DIRECT: "direct", Branch.RECTIFIED: "rectified", Branch.COLINEAR: "colinear"}
NAMES |= {Branch.INFEASIBLE: "infeasible", Branch.ABSENT: "direct"}


OURS_DIFFER = {"quota_below_floor", "tiny_constrained_grad", "whole_model_scalars", "block_normalised_full_grad"}
"""Tags of cases that our own rules are not meant to reproduce."""


def effective(parts: Tensor, variant: str) -> Tensor:
    return parts if variant == "hamu-q" else parts[:, [1, 0, 2]]


def as_posed(step: Step, options: Mapping[str, Any]) -> Problem:
    """The problem that a step solved, in clipped gradients and real rates."""
    clips = step.assessment.retain_clip, step.assessment.forget_clip
    scale = torch.stack((clips[0] ** 2, clips[1] ** 2, clips[0] * clips[1]))
    blocks, parts = (effective(g * scale, options["variant"]) for g in (step.gram, step.assessment.parts))
    one_each = len(blocks) == len(parts)
    block_of = torch.arange(len(parts)) if one_each else torch.zeros(len(parts), dtype=torch.int64)
    a, b, dot = blocks[:, 0].sqrt(), blocks[:, 1].sqrt(), blocks[:, 2]
    return Problem(a, b, dot, step.radius, step.quotas, parts, block_of)


def log_fields(problem: Problem, *, rate: float, row: int = 0) -> dict[str, float]:
    """The published log fields of one tensor, from our numbers."""
    block = int(problem.block_of[row])
    aa, bb, ab = problem.parts[row].tolist()
    a, b, dot, radius, c = (
        float(x[block])
        for x in (problem.objective_norm, problem.constraint_norm, problem.dot, problem.radius, problem.quota)
    )
    tilt = dot / max(b * b, 1e-12)
    return {
        "radius": radius,
        "constraint": c,
        "retain_grad_norm": a,
        "forget_grad_norm": b,
        "gradient_dot_product": dot,
        "orthogonal_retain_grad_norm": max(aa - 2 * tilt * ab + tilt * tilt * bb, 0.0) ** 0.5,
        "angle": float(torch.rad2deg(torch.acos(cosine(problem)[block]))),
        "feasibility": c / (max(b, 1e-6) * radius) if radius else float("inf"),
        "branch_threshold": -c * max(a, 1e-12) / radius if radius else 0.0,
        "stopping_criterion": a * b * float(free_share(problem, "two_sided")[block]),
        "stopping_threshold": c / rate,
    }


def compare_logs(got: Mapping[str, float], wanted: Mapping[str, Any], check: Check) -> None:
    a, b = got["retain_grad_norm"], got["forget_grad_norm"]
    share = check.pick(5e-6, 1e-12)
    for name in ("radius", "constraint", "retain_grad_norm", "forget_grad_norm"):
        check.near(name, got[name], wanted[name], share * abs(wanted[name]))
    check.near("dot", got["gradient_dot_product"], wanted["gradient_dot_product"], check.pick(1e-6, 1e-14) * a * b)
    allowed = check.pick(1e-3, 1e-7) * a * b
    check.near("stopping_criterion", got["stopping_criterion"], wanted["stopping_criterion"], allowed)
    if a * a > 1e-12 and b * b > 1e-12:  # an angle with nothing is a matter of epsilons
        flat = abs(abs(got["angle"] - 90) - 90) < 1  # acos is flat at 0 and 180 degrees
        check.near("angle", got["angle"], wanted["angle"], check.pick(0.06, 1e-5 if flat else 1e-9))
    if got["radius"] > 1e-12:
        check.near("feasibility", got["feasibility"], wanted["feasibility"], 2 * share * abs(wanted["feasibility"]))
    if got["radius"] > 1e-12:
        threshold = wanted["branch_threshold"]
        check.near("branch_threshold", got["branch_threshold"], threshold, 2 * share * abs(threshold))
    threshold = wanted["stopping_threshold"]
    check.near("stopping_threshold", got["stopping_threshold"], threshold, 2 * share * abs(threshold))
