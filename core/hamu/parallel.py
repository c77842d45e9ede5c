"""Data parallel: every rank goes through its own shard, all take the same step.

A loss is the mean over its shard, so with shards of equal size the mean over ranks is the loss of the whole, and so is
its gradient. After averaging, every rank holds the same numbers, solves the same problem and adds the same step: no
solution and no weights are exchanged.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup, Work


def average(gradients: Sequence[Tensor | None], weights: Sequence[Tensor], group: ProcessGroup) -> list[Tensor | None]:
    """Gradients averaged over the ranks, in place where they are stored like their weights.

    A weight that requires a gradient and has none here counts as zero, because it may have one on another rank; asking
    first would make the host wait. What does not require a gradient has to be the same on all ranks.
    """
    own = [_stored_alike(g, w) if w.requires_grad else None for g, w in zip(gradients, weights, strict=True)]
    present = [gradient for gradient in own if gradient is not None]
    for work in [_sum(gradient, group) for gradient in present]:
        work.wait()
    torch._foreach_div_(present, group.size())  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    return own


def average_loss(loss: Tensor, group: ProcessGroup) -> Tensor:
    """A 0-d loss averaged over the ranks: not finite on one, not finite on all."""
    mean = loss.detach().to(torch.float64, copy=True)
    _sum(mean, group).wait()
    return (mean / group.size()).to(loss.dtype)


def _sum(tensor: Tensor, group: ProcessGroup) -> Work:
    """Start to replace a tensor by its sum over the ranks; ``wait`` keeps only the device waiting, not the host."""
    reduce_ = distributed.all_reduce  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return cast("Work", reduce_(tensor, group=group, async_op=True))


def _stored_alike(gradient: Tensor | None, weight: Tensor) -> Tensor:
    """Ranks exchange elements in memory order, which must not depend on how a rank came by its gradient."""
    if gradient is None:
        return torch.zeros_like(weight)
    if gradient.is_sparse:
        gradient = gradient.to_dense()
    if gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight, dtype=gradient.dtype).copy_(gradient)
