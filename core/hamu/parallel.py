"""The same step on many ranks, however the work is divided among them.

* Data: every rank goes through a share of both sets, of any size. Its closures return ``Share(mean, records)``; a bare
  loss weighs 1.
* Goals: some ranks compute the retain gradient, others the forget gradient. The closure of the other goal is None.
* Weights: parameters are DTensors, of which each rank holds some elements (FSDP2's ``fully_shard``).

All ranks end up with the same numbers, solve the same problem and add the step to the elements they hold: neither a
solution nor weights are exchanged. Besides the sum of the gradients, which FSDP2 makes by itself, a step needs one
all-reduce: of four float64 numbers (both losses and their weights), and of 3 T more if some of T tensors are sharded.

A loss is multiplied by its weight before it is differentiated. The division by the total weight is left to the T×3
numbers and to the coefficients of the step, so that it costs no pass over the gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, TypeGuard, cast

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup, Work

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


@dataclass(frozen=True, slots=True)
class Share:
    """This rank's part of the loss over a whole set: the mean over its ``weight`` records.

    Any unit will do in which all ranks count, tokens for example. The host does not read a weight that is a tensor.
    """

    loss: Tensor
    """0-d."""
    weight: float | Tensor = 1.0


@dataclass(frozen=True, slots=True)
class Pass:
    """A loss and its gradients as found on this rank, while the gradients are being summed over the ranks."""

    share: Share | None
    """None if this rank has no part in the loss."""
    gradients: list[Tensor | None]
    """What this rank holds of them, one tensor a weight; None for what does not require a gradient."""
    under_way: tuple[Work, ...] = ()

    def wait(self) -> None:
        """Let the device wait until the gradients are sums; with a CPU backend that is the host."""
        for work in self.under_way:
            work.wait()


@dataclass(frozen=True, slots=True)
class Found:
    """What two passes amount to over all ranks."""

    retain_loss: Tensor
    """0-d."""
    forget_loss: Tensor
    """0-d."""
    parts: Tensor
    """(T, 3) float64: r·r, f·f, r·f of the mean gradients."""
    retain_scale: float | Tensor = 1.0
    """(T,) float64: by what the retain gradients have to be multiplied to be the mean."""
    forget_scale: float | Tensor = 1.0


def alone(parts: Tensor, retain: Pass, forget: Pass) -> Found:
    """What two passes amount to on a single rank. Raises ``ValueError`` if one of them was left out."""
    if retain.share is None or forget.share is None:
        raise ValueError("without a group both losses are needed")
    return Found(retain.share.loss.detach(), forget.share.loss.detach(), parts)


class Exchange:
    """All that the ranks of ``group`` tell each other about the gradients of ``weights``.

    Raises ``ValueError`` for a DTensor whose mesh does not have the ranks of the group, or that is a pending sum.
    """

    def __init__(self, weights: Sequence[Tensor], group: ProcessGroup) -> None:
        self._weights = weights
        self._group = group
        self._sharded = any(is_sharded(weight) for weight in weights)
        self._copies = [_copies(weight, group) for weight in weights]
        self._spreads: dict[tuple[int, ...], _Spread] = {}

    def begin(self, share: Share | None, gradients: Sequence[Tensor | None], *, weighted: bool) -> Pass:
        """Start to sum the gradients over the ranks. ``weighted``: those of the loss times its weight were taken.

        A weight that requires a gradient and has none here counts as zero, because it may have one on another rank;
        asking first would make the host wait. What does not require a gradient has to be the same on all ranks.
        Raises ``ValueError`` where gradients that FSDP2 has averaged would have to be weighted or left out.
        """
        unweighted = share is not None and not weighted and (isinstance(share.weight, Tensor) or share.weight != 1)
        if self._sharded and (share is None or unweighted):
            raise ValueError(
                "with sharded parameters every rank takes part in both losses, and a closure that has called backward "
                "itself returns a bare loss: its gradients have been averaged already"
            )
        own = [_stored_alike(g, w) if w.requires_grad else None for g, w in zip(gradients, self._weights, strict=True)]
        present = [(gradient, w) for gradient, w in zip(own, self._weights, strict=True) if gradient is not None]
        if share is not None and unweighted:
            for gradient, _ in present:
                gradient.mul_(share.weight)
        return Pass(share, own, tuple(self._sum(gradient) for gradient, w in present if not is_sharded(w)))

    def end(self, parts: Tensor, retain: Pass, forget: Pass, chosen: tuple[int, ...]) -> Found:
        """Means over the ranks, from the (T, 3) products of the gradients as this rank has them.

        ``chosen``: which T of the weights take part. The host does not wait.
        """
        spread = self._spread(chosen, parts)
        numbers = torch.cat((_numbers(retain.share, parts), _numbers(forget.share, parts)))
        if self._sharded:
            numbers = torch.cat((numbers, (parts / spread.copies[:, None]).view(-1)))
        self._sum(numbers).wait()
        retain_sum, retain_weight, forget_sum, forget_weight = numbers[:4].unbind()
        if self._sharded:
            parts = numbers[4:].view_as(parts)
        r, f = spread.divided_by / retain_weight, spread.divided_by / forget_weight
        scaled = parts * torch.stack((r.square(), f.square(), r * f), dim=1)
        return Found(retain_sum / retain_weight, forget_sum / forget_weight, scaled, r, f)

    def _spread(self, chosen: tuple[int, ...], like: Tensor) -> "_Spread":
        if chosen not in self._spreads:  # made once: to bring host numbers to a device takes a wait
            divided_by = [self._group.size() if is_sharded(self._weights[i]) else 1 for i in chosen]
            copies = [self._copies[i] for i in chosen]
            self._spreads[chosen] = _Spread(like.new_tensor(copies), like.new_tensor(divided_by))
        return self._spreads[chosen]

    def _sum(self, tensor: Tensor) -> Work:
        """Start to replace a tensor by its sum over the ranks; ``wait`` keeps only the device waiting."""
        reduce_ = distributed.all_reduce  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return cast("Work", reduce_(tensor, group=self._group, async_op=True))


@dataclass(frozen=True, slots=True)
class _Spread:
    """Of the T tensors that take part, (T,) float64 each."""

    copies: Tensor
    """How many ranks hold an element."""
    divided_by: Tensor
    """What the sum of the gradients over the ranks was divided by before we got it."""


def _numbers(share: Share | None, like: Tensor) -> Tensor:
    """(2,) float64: weight times loss, and weight. Not finite on one rank, not finite on all."""
    if share is None:
        return like.new_zeros(2)
    loss = share.loss.detach().to(like)
    weight = torch.ones_like(loss) * share.weight
    return torch.stack((loss * weight, weight))


def is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether it is a DTensor. Asked by its attribute: importing the class takes a second, and few need it."""
    return hasattr(tensor, "device_mesh")


def held_here(tensor: Tensor) -> Tensor:
    """The elements of a tensor that this rank holds, in the same memory and without a graph."""
    tensor = tensor.detach()
    return tensor.to_local() if is_sharded(tensor) else tensor


def _copies(weight: Tensor, group: ProcessGroup) -> int:
    if not is_sharded(weight):
        return group.size()
    mesh, placements = weight.device_mesh, weight.placements
    if mesh.size() != group.size() or any(placement.is_partial() for placement in placements):
        raise ValueError(
            f"a parameter of shape {tuple(weight.shape)} lies on {mesh.size()} ranks as {placements}: "
            f"it has to be sharded or replicated over the {group.size()} ranks of the group"
        )
    return prod(mesh.size(i) for i, placement in enumerate(placements) if placement.is_replicate())


def _stored_alike(gradient: Tensor | None, weight: Tensor) -> Tensor:
    """A gradient with the elements that the weight has here, in its memory order: ranks exchange them in that order."""
    here = held_here(weight)
    if gradient is None:
        return torch.zeros_like(here)
    if is_sharded(weight) and is_sharded(gradient) and gradient.placements != weight.placements:
        gradient = gradient.redistribute(weight.device_mesh, weight.placements)
    gradient = held_here(gradient)
    if gradient.is_sparse:
        gradient = gradient.to_dense()
    if gradient.stride() == here.stride():
        return gradient
    return torch.empty_like(here, dtype=gradient.dtype).copy_(gradient)
