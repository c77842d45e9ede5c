"""Suite ``baselines``: the peer methods' combined gradients."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.golden.check import Case, Check, read
from core.hamu.baselines import Products, gdiff, gru, kl, pcgrad, scrub
from core.hamu.baselines.gradients import Result, weighted_sum


def baseline(case: Case, tensors: Mapping[str, Tensor], check: Check) -> None:
    options, inputs, outputs = case["options"], case["inputs"], case["outputs"]
    if "grad" in outputs:
        given = {name: [tensors[key]] for name, key in inputs.items()}
        check.tensor("grad", peer_gradients(options, given)[0], tensors[outputs["grad"]])  # pyright: ignore[reportArgumentType]
        return
    names = list(inputs["retain_grads"])
    given = {side: list(read(inputs[f"{side}s"], tensors).values()) for side in ("retain_grad", "forget_grad")}
    for name, gradient in zip(names, peer_gradients(options, given), strict=True):
        key = outputs["grads"][name]
        check.exact(f"{name} is null", gradient is None, key is None)
        if gradient is not None and key is not None:
            check.tensor(f"grad.{name}", gradient, tensors[key])
        moved = tensors[inputs["weights"][name]]
        moved = moved if gradient is None else moved - options["lr"] * gradient
        if outputs["weights_after"].get(name) is not None:
            check.tensor(f"weights_after.{name}", moved, tensors[outputs["weights_after"][name]])


def peer_gradients(options: Mapping[str, Any], given: Mapping[str, Any]) -> Result:
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
