"""Suite ``updates``: one tensor, two gradients, one update."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.golden.check import Case, Check
from benchmarks.golden.terms import NAMES, OURS_DIFFER, compare_logs, effective, log_fields
from core.hamu import published
from core.hamu.gram import add_combination, gram, lay_out
from core.hamu.solve import Branch, Problem, Solver, solve


def update(case: Case, tensors: Mapping[str, Tensor], check: Check) -> None:
    options, outputs = case["options"], case["outputs"]
    r, f = (tensors[case["inputs"][name]] for name in ("retain_grad", "forget_grad"))
    layout = lay_out([r])
    pair = effective(gram(layout, [r], [f]), options["variant"])
    problem = _posed(pair, options)
    step, branch = _solved(published.Solve(eps=options["eps"]), problem, layout, r, f, options["variant"])
    failed = branch == "infeasible"
    if options["stop_on_infeasible"] and failed:
        step = torch.full_like(step, torch.nan)
    elif failed and float(problem.constraint_norm) ** 2 < options["eps"]:
        branch = "zero_forget_grad"
    wanted = tensors[outputs["update"]]
    check.exact("branch", branch, outputs["branch"])
    check.exact("failed", failed, outputs["failed_feasibility"])
    check.exact("nan", bool(step.isnan().any()), outputs["nan_in_update"])
    if not outputs["nan_in_update"]:
        check.tensor("update", step, wanted)
    compare_logs(log_fields(problem, rate=options["lr"]), outputs["logs"], check)
    if outputs["branch"] in ("direct", "rectified", "colinear") and not OURS_DIFFER & set(case["tags"]):
        step, branch = _solved(solve, problem, layout, r, f, options["variant"])
        check.exact("our branch", branch, outputs["branch"])
        check.tensor("our update", step, wanted)


def _posed(pair: Tensor, options: Mapping[str, Any]) -> Problem:
    """The problem of one tensor, with the numbers of the whole model where they are given."""
    whole = options["whole_model"]
    a, b, dot = pair[:, 0].sqrt(), pair[:, 1].sqrt(), pair[:, 2]
    if whole is not None:
        a, b, dot = (torch.full_like(a, whole[name]) for name in ("retain_norm", "forget_norm", "dot"))
    radius = a * options["lr"] if options["use_lr_radius"] else torch.full_like(a, options["radius"])
    return Problem(
        a, b, dot, radius, torch.full_like(a, options["constraint"]), pair, torch.zeros(1, dtype=torch.int64)
    )


def _solved(solver: Solver, problem: Problem, layout: Any, r: Tensor, f: Tensor, variant: str) -> tuple[Tensor, str]:
    solution = solver(problem)
    x, y = solution.along_constraint, solution.along_objective
    along = {"along_forget": x, "along_retain": y} if variant == "hamu-q" else {"along_forget": -y, "along_retain": -x}
    step = torch.zeros_like(r)
    add_combination(layout, [step], [r], [f], wanted=torch.tensor(True), **along)
    return step, NAMES[Branch(int(solution.branch[0]))]
