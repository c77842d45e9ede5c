"""Lists of gradients as one long vector: sums, products and norms."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Gradients = Sequence[Tensor | None]
Result = list[Tensor | None]


@dataclass(frozen=True, slots=True)
class Products:
    """r·r, f·f and r·f over the whole model, 0-d float64."""

    retain: Tensor
    forget: Tensor
    dot: Tensor


def products(retain: Gradients, forget: Gradients) -> Products:
    """The three whole-model products of two lists."""
    return Products(_dot(retain, retain), _dot(forget, forget), _dot(retain, forget))


def weighted_sum(first: Gradients, second: Gradients, a: float | Tensor, b: float | Tensor) -> Result:
    """a first + b second; None where both are. Formed in float64, returned in the gradients' type."""
    return [_combined(x, y, a, b) for x, y in zip(first, second, strict=True)]


def shortened(gradients: Gradients, tau: float | None, eps: float) -> Result:
    """The list scaled down to norm ``tau`` when it is longer; as it is without ``tau``."""
    if tau is None:
        return list(gradients)
    factor = (tau / _dot(gradients, gradients).sqrt().clamp(min=eps)).clamp(max=1.0)
    return weighted_sum(gradients, [None] * len(gradients), factor, 0.0)


def _combined(x: Tensor | None, y: Tensor | None, a: float | Tensor, b: float | Tensor) -> Tensor | None:
    if x is None:
        return None if y is None else (y.double() * b).to(y.dtype)
    total = x.double() * a
    return (total if y is None else total + y.double() * b).to(x.dtype)


def _dot(first: Gradients, second: Gradients) -> Tensor:
    pairs = [(x, y) for x, y in zip(first, second, strict=True) if x is not None and y is not None]
    terms = [(x.double() * y.double()).sum() for x, y in pairs]
    return torch.stack(terms).sum() if terms else torch.zeros((), dtype=torch.float64)
