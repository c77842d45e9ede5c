"""The step as one would first write it, to compare with: ``--other benchmarks.per_tensor:build``.

Gradients are copied, each tensor is reduced on its own in its own type, and branches are taken on the host.
"""

from collections.abc import Callable, Sequence
from math import sqrt

import torch
from torch import Tensor

Closure = Callable[[], Tensor]


def build(weights: Sequence[Tensor], lr: float) -> Callable[[Closure, Closure], None]:
    """A HAMU-Q step with a quota of half the reach in every tensor and whole-model clipping to norm 1."""

    def step(retain_loss: Closure, forget_loss: Closure) -> None:
        retain, forget = _gradients(weights, retain_loss), _gradients(weights, forget_loss)
        with torch.no_grad():
            for weight, r, f in zip(weights, retain, forget, strict=True):
                weight += _update(r, f, lr)

    return step


def _gradients(weights: Sequence[Tensor], closure: Closure) -> list[Tensor]:
    for weight in weights:
        weight.grad = None
    closure().backward()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    return [torch.zeros_like(weight) if weight.grad is None else weight.grad.clone() for weight in weights]


def _update(r: Tensor, f: Tensor, lr: float) -> Tensor:
    norm, forget_norm, dot = float(r.norm()), float(f.norm()), float((r * f).sum())
    if norm * forget_norm == 0:
        return -lr * r
    radius = lr * norm
    quota = 0.5 * radius * forget_norm
    if dot <= -quota * norm / radius:
        return -lr * r
    along = r - f * (dot / forget_norm**2)
    length = float(along.norm())
    if length < 1e-12:
        return f * (quota / forget_norm**2)
    return f * (quota / forget_norm**2) - along * (sqrt(radius**2 - (quota / forget_norm) ** 2) / length)
