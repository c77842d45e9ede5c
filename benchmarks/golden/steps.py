"""Suite ``steps``: one step of a whole model in every quota mode."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.golden.check import Case, Check, read
from benchmarks.golden.terms import NAMES, OURS_DIFFER, as_posed, compare_logs, log_fields
from core.hamu import HAMU, Step, published, quota
from core.hamu.hardness import free_share
from core.hamu.solve import Branch, Problem, Solver, solve

MODES: dict[str, quota.QuotaRule] = {
    "uniform": published.uniform,
    "grad_norm": quota.gradient_norm,
    "grad_norm_raw": published.gradient_norm_raw,
    "softmax": published.softmax,
    "softmax_raw": published.softmax_raw,
    "softmax_and_grad_norm": published.softmax,
    "full": published.uniform,
    "full_with_grad_norm": published.uniform,
}


def optimizer_for(
    weights: Sequence[tuple[str, Tensor]], options: Mapping[str, Any], *, solver: Solver | None = None, **extra: Any
) -> HAMU:
    full = options["mode"].startswith("full")
    free = options["use_lr_radius"]
    settings: dict[str, Any] = {
        "variant": options["variant"].removeprefix("hamu-"),
        "quota": MODES[options["mode"]],
        "block": "model" if full else "tensor",
        "radius": None if free else options["radius"],
        "radius_scope": "block",
        "fixed_quota": options["constraint"],
        "stop_rule": "two_sided" if options["stop_on_stopping_criterion"] else "none",
        "on_infeasible": "stop" if options["stop_on_failed_feasibility"] else "clip",
        "solver": solver or published.Solve(rate=options["lr"] if free else 1.0, eps=options["eps"]),
    }
    return HAMU(weights, options["lr"] if free else 1.0, **(settings | extra))


def _handing(weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None]) -> Callable[[], Tensor]:
    """A closure whose gradients are already known."""

    def closure() -> Tensor:
        for name, weight in weights.items():
            weight.grad = gradients[name]
        return torch.zeros(())

    return closure


def _taken(
    case: Case, tensors: Mapping[str, Tensor], start: Mapping[str, Tensor], **extra: Any
) -> tuple[Step, Mapping[str, Tensor]]:
    """One step from ``start``: what it reports and the weights after it."""
    weights = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimizer = optimizer_for(list(weights.items()), case["options"], max_grad_norm=None, **extra)
    sides = (read(case["inputs"][side], tensors) for side in ("retain_grads", "forget_grads"))
    retain, forget = (_handing(weights, side) for side in sides)
    return optimizer.step(retain_loss=retain, forget_loss=forget), {n: w.detach() for n, w in weights.items()}


def step_of_model(case: Case, tensors: Mapping[str, Tensor], check: Check) -> None:
    options, outputs = case["options"], case["outputs"]
    retain = read(case["inputs"]["retain_grads"], tensors)
    forget = read(case["inputs"]["forget_grads"], tensors)
    present = [name for name in retain if retain[name] is not None or forget[name] is not None]
    shapes = {name: (retain[name] if retain[name] is not None else forget[name]) for name in present}
    origin = {name: torch.zeros_like(shape) for name, shape in shapes.items() if shape is not None}
    origin |= {name: torch.zeros(1) for name in retain if name not in origin}
    step, after = _taken(case, tensors, origin)
    _compare_decisions(step, present, outputs, options, check)
    _compare_grads(after, outputs, tensors, options, check, "grad")
    if case["inputs"].get("weights") and outputs.get("weights_after"):
        start = {name: tensors[key] for name, key in case["inputs"]["weights"].items()}
        _, moved = _taken(case, tensors, start)
        for name, key in outputs["weights_after"].items():
            check.tensor(f"weights_after.{name}", moved[name], tensors[key])
    plain = all(entry["branch"] in ("direct", "rectified", "colinear") for entry in outputs["per_tensor"])
    if plain and not outputs["step_cleared"] and not OURS_DIFFER & set(case["tags"]):
        _, ours = _taken(case, tensors, origin, solver=solve)
        _compare_grads(ours, outputs, tensors, options, check, "our grad")


def _compare_grads(
    after: Mapping[str, Tensor], outputs: Case, tensors: Mapping[str, Tensor], options: Case, check: Check, what: str
) -> None:
    for name, key in outputs["grads"].items():
        if key is None:
            check.exact(f"{what}.{name} moved", bool(after[name].any()), False)
        else:
            check.tensor(f"{what}.{name}", -after[name].double() / options["inner_lr"], tensors[key])


def compare_stop(step: Step, problem: Problem, wanted: Case, options: Case, check: Check, share: float) -> str | None:
    """The stopping numbers and the decision; returns the published reason."""
    rhs, asked = float((problem.reach * free_share(problem, "two_sided")).sum()), float(problem.quota.sum())
    check.near("stopping_rhs", rhs, wanted["aggregate_stopping_rhs"], share * abs(wanted["aggregate_stopping_rhs"]))
    check.near("stopping_constraint", asked, wanted["stopping_constraint"], share * abs(wanted["stopping_constraint"]))
    check.exact("stopping_met", asked > rhs, wanted["stopping_met"])
    reason = None
    if options["stop_on_failed_feasibility"] and bool((step.branch == Branch.INFEASIBLE).any()):
        reason = "failed_feasibility"
    if options["stop_on_stopping_criterion"] and asked > rhs:
        reason = "stopping_criterion"
    check.exact("stop_reason", reason, wanted["stop_reason"])
    check.exact("should_stop", bool(step.should_stop), wanted["stop_reason"] is not None)
    return reason


def _compare_decisions(step: Step, names: Sequence[str], outputs: Case, options: Case, check: Check) -> None:
    """Stop decisions, branches, counters and logs of a step in published terms."""
    problem = as_posed(step, options)
    reason = compare_stop(step, problem, outputs, options, check, 1e-5)
    check.exact("step_cleared", bool(step.should_stop), outputs["step_cleared"])
    branches, listed = [Branch(int(branch)) for branch in step.branch], outputs["per_tensor"]
    expected = {"stopping_criterion": 0, None: len(names)}
    if reason == "failed_feasibility":
        expected[reason] = branches.index(Branch.INFEASIBLE) + 1
    check.exact("tensors listed", expected[reason], len(listed))
    rate = options["lr"] if options["use_lr_radius"] else 1.0
    for row, (name, branch, wanted) in enumerate(zip(names, branches, listed, strict=False)):
        vanishing = float(problem.constraint_norm[int(problem.block_of[row])]) ** 2 < options["eps"]
        renamed = branch == Branch.INFEASIBLE and vanishing and not options["stop_on_failed_feasibility"]
        check.exact(f"tensor {row}", name, wanted["tensor"])
        check.exact(f"{name}.branch", "zero_forget_grad" if renamed else NAMES[branch], wanted["branch"])
        check.exact(f"{name}.failed", branch == Branch.INFEASIBLE, wanted["failed_feasibility"])
        compare_logs(log_fields(problem, rate=rate, row=row), wanted["logs"], check)
    if reason != "stopping_criterion":
        _compare_counters(branches[: len(listed)], listed, outputs["counters"], check)
        nan = outputs["counters"]["failed"] if options["stop_on_failed_feasibility"] else 0
        check.exact("nan", nan, outputs["counters"]["nan"])


def _compare_counters(
    branches: Sequence[Branch], listed: Sequence[Case], wanted: Mapping[str, int], check: Check
) -> None:
    count = Counter(branches)
    bent = count[Branch.RECTIFIED] + count[Branch.COLINEAR]
    bent += sum(entry["branch"] == "zero_forget_grad" for entry in listed)
    check.exact("direct", count[Branch.DIRECT] + count[Branch.ABSENT], wanted["direct"])
    check.exact("rectified_colinear_or_zero", bent, wanted["rectified_colinear_or_zero"])
    check.exact("failed", count[Branch.INFEASIBLE], wanted["failed"])
