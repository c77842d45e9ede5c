"""Replay a folder of reference vectors: ``python -m benchmarks.golden DIR``.

The folder holds ``index.json`` (cases with options, inputs and outputs) and one safetensors file a suite; its README
gives the format. Every case runs through ``core.hamu`` with the published rules; where these and ours must agree the
case also runs with ours. Ends with the line ``N passed, N failed`` and exit code 1 if any failed.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from core.hamu import HAMU, Step, published, quota
from core.hamu.baselines import Products, gdiff, gru, kl, pcgrad, scrub
from core.hamu.baselines.gradients import Result, weighted_sum
from core.hamu.gram import add_combination, gram, lay_out
from core.hamu.hardness import free_share
from core.hamu.solve import Branch, Problem, Solver, cosine, solve

Case = Mapping[str, Any]
"""One entry of the index, as parsed from JSON."""

NAMES = {Branch.DIRECT: "direct", Branch.RECTIFIED: "rectified", Branch.COLINEAR: "colinear"}
NAMES |= {Branch.INFEASIBLE: "infeasible", Branch.ABSENT: "direct"}

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

OURS_DIFFER = {"quota_below_floor", "tiny_constrained_grad", "whole_model_scalars", "block_normalised_full_grad"}
"""Tags of cases that our own rules are not meant to reproduce."""


@dataclass(slots=True)
class Check:
    """Collects what does not match in one case."""

    dtype: str = "float32"
    wrong: list[str] = field(default_factory=list)

    def exact(self, what: str, got: object, wanted: object) -> None:
        if got != wanted:
            self.wrong.append(f"{what}: {got!r} for {wanted!r}")

    def near(self, what: str, got: float, wanted: float, allowed: float) -> None:
        if not abs(got - float(wanted)) <= allowed:
            self.wrong.append(f"{what}: {got!r} for {wanted!r}, allowed {allowed:.1e}")

    def tensor(self, what: str, got: Tensor, wanted: Tensor, *, scale: float | None = None) -> None:
        """Largest difference over the largest value."""
        largest = float(wanted.abs().max()) if scale is None else scale
        self.near(what, float((got.double() - wanted.double()).abs().max()), 0.0, self.pick(5e-6, 1e-12) * largest)

    def pick(self, single: float, double: float) -> float:
        return single if self.dtype == "float32" else double


def replay(case: Case, tensors: Mapping[str, Tensor], models: Mapping[str, Any]) -> list[str]:
    """What does not match in a case; empty if it passes."""
    check = Check(case["options"].get("dtype", "float32"))
    if case["suite"] == "trajectories":
        _trajectory(case, tensors, models, check)
    else:
        {"updates": _update, "steps": _step, "baselines": _baseline}[case["suite"]](case, tensors, check)
    return check.wrong


# One tensor -----------------------------------------------------------------------------------------------------------


def _update(case: Case, tensors: Mapping[str, Tensor], check: Check) -> None:
    options, outputs = case["options"], case["outputs"]
    r, f = (tensors[case["inputs"][name]] for name in ("retain_grad", "forget_grad"))
    layout = lay_out([r])
    pair = _effective(gram(layout, [r], [f]), options["variant"])
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
    _compare_logs(_logs(problem, rate=options["lr"]), outputs["logs"], check)
    if outputs["branch"] in ("direct", "rectified", "colinear") and not OURS_DIFFER & set(case["tags"]):
        step, branch = _solved(solve, problem, layout, r, f, options["variant"])
        check.exact("our branch", branch, outputs["branch"])
        check.tensor("our update", step, wanted)


def _effective(parts: Tensor, variant: str) -> Tensor:
    return parts if variant == "hamu-q" else parts[:, [1, 0, 2]]


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


def _logs(problem: Problem, *, rate: float, row: int = 0) -> dict[str, float]:
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


def _compare_logs(got: Mapping[str, float], wanted: Mapping[str, Any], check: Check) -> None:
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


# One step of a model --------------------------------------------------------------------------------------------------


def _optimizer(
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
    optimizer = _optimizer(list(weights.items()), case["options"], max_grad_norm=None, **extra)
    sides = (_read(case["inputs"][side], tensors) for side in ("retain_grads", "forget_grads"))
    retain, forget = (_handing(weights, side) for side in sides)
    return optimizer.step(retain_loss=retain, forget_loss=forget), {n: w.detach() for n, w in weights.items()}


def _read(keys: Mapping[str, str | None], tensors: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    return {name: None if key is None else tensors[key] for name, key in keys.items()}


def _step(case: Case, tensors: Mapping[str, Tensor], check: Check) -> None:
    options, outputs = case["options"], case["outputs"]
    retain = _read(case["inputs"]["retain_grads"], tensors)
    forget = _read(case["inputs"]["forget_grads"], tensors)
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


def _compare_stop(step: Step, problem: Problem, wanted: Case, options: Case, check: Check, share: float) -> str | None:
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
    problem = _as_posed(step, options)
    reason = _compare_stop(step, problem, outputs, options, check, 1e-5)
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
        _compare_logs(_logs(problem, rate=rate, row=row), wanted["logs"], check)
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


def _as_posed(step: Step, options: Mapping[str, Any]) -> Problem:
    """The problem that a step solved, in clipped gradients and real rates."""
    clips = step.assessment.retain_clip, step.assessment.forget_clip
    scale = torch.stack((clips[0] ** 2, clips[1] ** 2, clips[0] * clips[1]))
    blocks, parts = (_effective(g * scale, options["variant"]) for g in (step.gram, step.assessment.parts))
    one_each = len(blocks) == len(parts)
    block_of = torch.arange(len(parts)) if one_each else torch.zeros(len(parts), dtype=torch.int64)
    a, b, dot = blocks[:, 0].sqrt(), blocks[:, 1].sqrt(), blocks[:, 2]
    return Problem(a, b, dot, step.radius, step.quotas, parts, block_of)


# Baselines ------------------------------------------------------------------------------------------------------------


def _baseline(case: Case, tensors: Mapping[str, Tensor], check: Check) -> None:
    options, inputs, outputs = case["options"], case["inputs"], case["outputs"]
    if "grad" in outputs:
        given = {name: [tensors[key]] for name, key in inputs.items()}
        check.tensor("grad", _peer(options, given)[0], tensors[outputs["grad"]])  # pyright: ignore[reportArgumentType]
        return
    names = list(inputs["retain_grads"])
    given = {side: list(_read(inputs[f"{side}s"], tensors).values()) for side in ("retain_grad", "forget_grad")}
    for name, gradient in zip(names, _peer(options, given), strict=True):
        key = outputs["grads"][name]
        check.exact(f"{name} is null", gradient is None, key is None)
        if gradient is not None and key is not None:
            check.tensor(f"grad.{name}", gradient, tensors[key])
        moved = tensors[inputs["weights"][name]]
        moved = moved if gradient is None else moved - options["lr"] * gradient
        if outputs["weights_after"].get(name) is not None:
            check.tensor(f"weights_after.{name}", moved, tensors[outputs["weights_after"][name]])


def _peer(options: Mapping[str, Any], given: Mapping[str, Any]) -> Result:
    method, whole = options["method"], options.get("whole_model")
    r, f = given.get("retain_grad"), given.get("forget_grad")
    if method == "gdiff":
        return gdiff(r, f)
    if method == "kl":
        return kl(given["retain_kl_grad"], f)
    if method == "scrub":
        kls = given["retain_kl_grad"], given["forget_kl_grad"]
        return scrub(r, *kls, alpha=options["alpha"], gamma=options["gamma"])
    if method == "paired_average":
        return weighted_sum(r, f, 0.5, 0.5)
    numbers = None
    if whole is not None:
        values = (whole["retain_norm"] ** 2, whole["forget_norm"] ** 2, whole["dot"])
        numbers = Products(*(torch.tensor(value, dtype=torch.float64) for value in values))
    peer = {"gru": gru, "pcgrad": pcgrad}[method]
    return peer(r, f, tau=options["tau"], whole_model=numbers, eps=options["eps"])


# Trajectories ---------------------------------------------------------------------------------------------------------


def _model(name: str, models: Mapping[str, Any]) -> nn.Module:
    if name == "mlp":
        a, b, c, d = models["mlp"]["sizes"]
        return nn.Sequential(nn.Linear(a, b), nn.Tanh(), nn.Linear(b, c), nn.Tanh(), nn.Linear(c, d))
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**models["llama"], attn_implementation="eager"))


def _logits(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    if "x" in batch:
        return model(batch["x"])
    return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


def _loss(model: nn.Module, batch: Mapping[str, Tensor], counted: int | None) -> Tensor:
    """Mean cross-entropy; for text over ``counted`` tokens, or over the batch's own."""
    logits = _logits(model, batch)
    if "y" in batch:
        return functional.cross_entropy(logits, batch["y"])
    targets = batch["labels"][:, 1:].flatten()
    total = functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets, ignore_index=-100, reduction="sum")
    return total / (counted or int((targets != -100).sum()))


def _kl(model: nn.Module, original: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Mean over the batch of KL(original ‖ current)."""
    with torch.no_grad():
        was = _logits(original, batch).log_softmax(-1)
    return (was.exp() * (was - _logits(model, batch).log_softmax(-1))).sum(-1).clamp(min=0).mean()


@dataclass(slots=True)
class _Pair:
    """Losses of one pair of batches, recomputed at the current weights."""

    model: nn.Module
    original: nn.Module
    retain: Mapping[str, Tensor]
    forget: Mapping[str, Tensor]
    options: Mapping[str, Any]

    def retain_loss(self) -> Tensor:
        return _loss(self.model, self.retain, None)

    def forget_loss(self) -> Tensor:
        over = self.options.get("token_normaliser") == "retain"
        return _loss(self.model, self.forget, int((self.retain["labels"][:, 1:] != -100).sum()) if over else None)

    def objectives(self) -> tuple[Tensor, Tensor]:
        """The two objectives of a peer method, both to be descended except for gru and pcgrad."""
        method = self.options["method"]
        if method == "gdiff":
            return self.retain_loss(), -self.forget_loss()
        if method == "kl":
            return _kl(self.model, self.original, self.retain), -self.forget_loss()
        if method == "scrub":
            kept = self.options["alpha"] * _kl(self.model, self.original, self.retain)
            return kept + self.options["gamma"] * self.retain_loss(), -_kl(self.model, self.original, self.forget)
        return self.retain_loss(), self.forget_loss()


def _trajectory(case: Case, tensors: Mapping[str, Tensor], models: Mapping[str, Any], check: Check) -> None:
    options, outputs = case["options"], case["outputs"]
    model, original = (_model(options["model"], models).eval() for _ in range(2))
    start = {name: tensors[key] for name, key in case["inputs"]["weights"].items()}
    for copy in (model, original):
        copy.load_state_dict(start)
    advance = _hamu_steps(model, options) if options["method"].startswith("hamu") else _peer_steps(model, options)
    next(advance)
    for number, wanted in enumerate(outputs["steps"]):
        batches = case["inputs"]["batches"][number]
        retain, forget = ({k: tensors[v] for k, v in batches[side].items()} for side in ("retain", "forget"))
        inner = Check()
        advance.send((_Pair(model, original, retain, forget, options), wanted, inner))
        check.wrong += [f"step {number}: {line}" for line in inner.wrong]
        if number == 0:
            for name, key in outputs["weights_after_first_step"].items():
                check.tensor(f"first.{name}", model.get_parameter(name).detach(), tensors[key])
    ends = [(model.get_parameter(n).detach(), tensors[key]) for n, key in outputs["weights_final"].items()]
    apart = float(torch.stack([(got.double() - end.double()).square().sum() for got, end in ends]).sum().sqrt())
    check.near("final weights", apart, 0.0, 1e-4 * outputs["distance_moved"])


def _hamu_steps(model: nn.Module, options: Mapping[str, Any]) -> Any:
    adamw = options["inner_optimizer"] == "adamw"
    inner = torch.optim.AdamW(model.parameters(), lr=options["lr"], weight_decay=0.0) if adamw else None
    names = [name for name, _ in model.named_parameters()]
    optimizer = _optimizer(list(model.named_parameters()), options, max_grad_norm=options["max_grad_norm"], inner=inner)
    pair, wanted, check = yield
    while True:
        step = optimizer.step(retain_loss=pair.retain_loss, forget_loss=pair.forget_loss)
        row = step.row()
        for name in ("retain_loss", "forget_loss"):
            check.near(name, row[name], wanted[name], 1e-5)
        for side in ("retain", "forget"):
            norm = wanted[f"{side}_grad_norm_before_clip"]
            check.near(f"{side} norm", row[f"{side}_grad_norm"], norm, 1e-4 * norm)
        _compare_trajectory_step(step, names, wanted, options, check)
        pair, wanted, check = yield


def _compare_trajectory_step(step: Step, names: Sequence[str], wanted: Case, options: Case, check: Check) -> None:
    problem = _as_posed(step, options)
    reason = _compare_stop(step, problem, wanted, options, check, 1e-4)
    if reason is None:
        check.near("kappa", float(step.hardness.kappa), wanted["kappa"], 1e-5)
    check.exact("tensors listed", bool(wanted["per_tensor"]), reason != "stopping_criterion")
    for name, entry in wanted["per_tensor"].items():
        row = names.index(name)
        check.exact(f"{name}.branch", NAMES[Branch(int(step.branch[row]))], entry["branch"])
        got = _logs(problem, rate=1.0, row=row)
        for key in ("constraint", "radius", "retain_grad_norm", "forget_grad_norm"):
            check.near(f"{name}.{key}", got[key], entry[key], 1e-4 * abs(entry[key]))
        check.near(f"{name}.angle", got["angle"], entry["angle"], 0.06)


def _peer_steps(model: nn.Module, options: Mapping[str, Any]) -> Any:
    weights = list(model.parameters())
    optimizer = torch.optim.SGD(weights, lr=options["lr"])
    pair, wanted, check = yield
    while True:
        with torch.no_grad():
            check.near("retain_loss", float(pair.retain_loss()), wanted["retain_loss"], 1e-5)
            check.near("forget_loss", float(pair.forget_loss()), wanted["forget_loss"], 1e-5)
        both: list[list[Tensor | None]] = []
        for side, objective in zip(("retain", "forget"), pair.objectives(), strict=True):
            check.near(f"{side}_objective", float(objective.detach()), wanted[f"{side}_objective"], 1e-5)
            optimizer.zero_grad()
            objective.backward()
            norm = float(nn.utils.clip_grad_norm_(weights, options["max_grad_norm"]))
            expected = wanted[f"{side}_grad_norm_before_clip"]
            check.near(f"{side} norm", norm, expected, 1e-4 * expected + 1e-6)
            both.append([weight.grad for weight in weights])
        method = options["method"] if options["method"] in ("gru", "pcgrad") else "paired_average"
        result = _peer({"tau": None, **options, "method": method}, {"retain_grad": both[0], "forget_grad": both[1]})
        for weight, gradient in zip(weights, result, strict=True):
            weight.grad = gradient
        optimizer.step()
        pair, wanted, check = yield


# Command line ---------------------------------------------------------------------------------------------------------


def cases(folder: Path) -> Iterator[tuple[Case, Callable[[], list[str]]]]:
    """Every case of a folder with a function that replays it."""
    index = json.loads((folder / "index.json").read_text())
    files = {suite: load_file(folder / name) for suite, name in index["files"].items()}
    for case in index["cases"]:
        yield case, lambda case=case: replay(case, files[case["suite"]], index.get("models", {}))


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay a folder and print what differs; 0 if nothing does."""
    parser = argparse.ArgumentParser(description="Replay reference vectors through core.hamu.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", type=int, default=20, help="failed cases to describe")
    options = parser.parse_args(arguments)
    passed: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for case, run in cases(options.folder):
        try:
            wrong = run()
        except Exception as error:  # one case that cannot run is one failure, not the end of the replay
            wrong = [repr(error)]
        (failed if wrong else passed)[case["suite"]] += 1
        if wrong and sum(failed.values()) <= options.show:
            sys.stdout.write(f"{case['id']} [{' '.join(case['tags'])}]\n" + "".join(f"    {w}\n" for w in wrong[:6]))
    for suite in dict.fromkeys([*passed, *failed]):
        sys.stdout.write(f"{suite}: {passed[suite]} passed, {failed[suite]} failed\n")
    sys.stdout.write(f"{sum(passed.values())} passed, {sum(failed.values())} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
