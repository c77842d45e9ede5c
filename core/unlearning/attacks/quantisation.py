"""Round the weights as a deployment in few bits would, and look whether the forgotten comes back.

Forgetting moves weights a little, and rounding can undo it (Zhang et al., arXiv 2410.16454). Symmetric
round-to-nearest with one scale for each output channel (the first dimension), on all weights of two and more
dimensions: embeddings and an adapter's base included, biases and norms not. Cost: a copy of those weights on the host
and one forward pass over each set for each width. This is plain rounding and not a calibrated scheme such as GPTQ.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

WIDTHS = {"int8": 8, "int4": 4}
"""Bits of the formats that are tried, by name."""


def rounded(weight: Tensor, bits: int) -> Tensor:
    """``weight`` (out, …) as integers of −(2^(bits−1) − 1) … 2^(bits−1) − 1 times its channel's scale.

    The scale is the channel's largest magnitude over the largest integer; a channel of zeros stays.
    """
    largest = 2 ** (bits - 1) - 1
    rows = weight.flatten(1)
    scale = rows.abs().amax(dim=1, keepdim=True) / largest
    steps = torch.where(scale > 0, rows / scale, 0.0).round()
    return (steps * scale).reshape(weight.shape)


@contextmanager
def quantised(model: nn.Module, bits: int) -> Iterator[None]:
    """``model`` with rounded weights while inside; afterwards they are what they were, bit for bit."""
    weights = [weight for weight in model.parameters() if weight.ndim > 1]
    held = [weight.detach().to("cpu", copy=True) for weight in weights]
    with torch.no_grad():
        for weight in weights:
            weight.copy_(rounded(weight, bits))
        try:
            yield
        finally:
            for weight, before in zip(weights, held, strict=True):
                weight.copy_(before)
