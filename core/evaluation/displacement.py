"""How far the weights moved."""

import math
from collections.abc import Iterable, Mapping

from torch import Tensor


def displacement(before: Mapping[str, Tensor], after: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
    """Euclidean distance of all weights in ``before``, and the same as a share of their norm.

    ``after`` may name more tensors; those are left out. Computed a tensor at a time in float64. The share is 0 for
    weights that are all zero and stayed so, and 1 for weights that were all zero and moved.
    """
    moved, size = 0.0, 0.0
    for name, tensor in after:
        if name in before:
            start = before[name].detach().double()
            moved += float((tensor.detach().to(start.device).double() - start).square().sum())
            size += float(start.square().sum())
    share = math.sqrt(moved / size) if size else float(moved > 0)
    return {"displacement": math.sqrt(moved), "relative_displacement": share}
