"""Suite ``trajectories``: ten steps of a small model, from losses to final weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.golden.baselines import peer_gradients
from benchmarks.golden.check import Case, Check
from benchmarks.golden.steps import compare_stop, optimizer_for
from benchmarks.golden.terms import NAMES, as_posed, log_fields
from core.hamu import Step
from core.hamu.solve import Branch


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


def trajectory(case: Case, tensors: Mapping[str, Tensor], models: Mapping[str, Any], check: Check) -> None:
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
    optimizer = optimizer_for(
        list(model.named_parameters()), options, max_grad_norm=options["max_grad_norm"], inner=inner
    )
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
    problem = as_posed(step, options)
    reason = compare_stop(step, problem, wanted, options, check, 1e-4)
    if reason is None:
        check.near("kappa", float(step.hardness.kappa), wanted["kappa"], 1e-5)
    check.exact("tensors listed", bool(wanted["per_tensor"]), reason != "stopping_criterion")
    for name, entry in wanted["per_tensor"].items():
        row = names.index(name)
        check.exact(f"{name}.branch", NAMES[Branch(int(step.branch[row]))], entry["branch"])
        got = log_fields(problem, rate=1.0, row=row)
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
        result = peer_gradients(
            {"tau": None, **options, "method": method}, {"retain_grad": both[0], "forget_grad": both[1]}
        )
        for weight, gradient in zip(weights, result, strict=True):
            weight.grad = gradient
        optimizer.step()
        pair, wanted, check = yield
