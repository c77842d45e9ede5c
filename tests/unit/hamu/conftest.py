"""Steps from given gradients, so that a test states the problem itself and no model stands between."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from core.hamu import HAMU, Step

Grads = Sequence[Tensor | None]


def handing(weights: Sequence[Tensor], gradients: Grads, loss: float = 1.0) -> Callable[[], Tensor]:
    """A closure that has already called backward: gradients in ``.grad``, a detached loss."""

    def closure() -> Tensor:
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = None if gradient is None else gradient.clone()
        return torch.tensor(loss)

    return closure


def take(retain: Grads, forget: Grads, *, lr: float = 0.1, **options: Any) -> tuple[Step, list[Tensor]]:
    """One step from weights of zero: the step and each tensor's Δ. Gradients are not clipped unless asked."""
    shapes = [r if r is not None else f for r, f in zip(retain, forget, strict=True)]
    weights = [torch.zeros_like(shape).requires_grad_() for shape in shapes if shape is not None]
    optimizer = HAMU(weights, lr, **({"max_grad_norm": None} | options))
    step = optimizer.step(retain_loss=handing(weights, retain), forget_loss=handing(weights, forget))
    return step, [weight.detach() for weight in weights]


@pytest.fixture(name="take")
def take_fixture() -> Callable[..., tuple[Step, list[Tensor]]]:
    return take


@pytest.fixture(name="handing")
def handing_fixture() -> Callable[..., Callable[[], Tensor]]:
    return handing
