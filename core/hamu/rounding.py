"""Rounding to a narrower type that is right on average.

bfloat16 keeps 8 bits of a weight, so a step that moves it by less than 1/512 of itself is lost when the sum is rounded
to the nearest number, however many steps follow. Rounded up or down with a probability that makes the expectation
exact, each step arrives on average, at the price of noise of at most one unit in the last place.
"""

import math
from typing import Literal, cast

import torch
from torch import Generator, Tensor

Rounding = Literal["nearest", "stochastic"]

PIECE = 2**20
"""Elements that ``settle`` rounds at a time: some 40 MiB of float64."""


def round_stochastically(exact: Tensor, dtype: torch.dtype, generator: Generator | None = None) -> Tensor:
    """``exact`` (float64) as one of its two neighbours in ``dtype``: its expectation is ``exact``.

    What ``dtype`` can represent stays as it is; so does what is not finite, and what lies beyond its largest number
    becomes infinite. ``generator`` lies on the device of ``exact``. Below 1e-38, where bfloat16 and float32 lose
    digits, the nearest number is taken.
    """
    if dtype is torch.float16:
        shift = _out_of_subnormals(exact, dtype)
        return (_cut(exact + shift, dtype, generator) - shift).to(dtype)
    return _cut(exact, dtype, generator).to(dtype)


def _cut(exact: Tensor, dtype: torch.dtype, generator: Generator | None) -> Tensor:
    """Float64 with the digits of ``dtype``: noise below its last digit decides, by its carry, which neighbour it is."""
    spare = round(math.log2(torch.finfo(dtype).eps / torch.finfo(torch.float64).eps))
    noise = torch.empty(exact.shape, dtype=torch.int64, device=exact.device).random_(0, 2**spare, generator=generator)
    return noise.add_(exact.view(torch.int64)).bitwise_and_(-(2**spare)).view(torch.float64)


def _out_of_subnormals(exact: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to a number below the least normal one so that it keeps the last digit that it has in ``dtype``."""
    least = torch.finfo(dtype).tiny
    return torch.where(exact.abs() < least, torch.copysign(torch.full_like(exact, least), exact), 0.0)


@torch.no_grad()
def settle(weight: Tensor, dtype: torch.dtype, generator: Generator) -> None:
    """Round ``weight`` stochastically, in place, to numbers that ``dtype`` can hold: ready to be stored in it.

    A weight that is such a number already stays as it is. Goes through it in pieces: what is needed beside it is small.
    """
    rows = max(1, PIECE // max(1, weight[:1].numel())) if weight.dim() else 1
    pieces = weight.split(rows) if weight.dim() else (weight,)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    for piece in cast("tuple[Tensor, ...]", pieces):
        piece.copy_(round_stochastically(piece.double(), dtype, generator))
