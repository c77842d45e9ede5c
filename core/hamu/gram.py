"""Three numbers a tensor: all that a HAMU step needs to know about two gradients.

For the retain gradient r and the forget gradient f of a tensor these are r·r, f·f and r·f. They are accumulated in
float64 whatever the gradients' type (products of float32 numbers are exact there), because the solve needs the sine
between r and f, and ‖r‖²‖f‖² - (r·f)² cancels. Sines below 1e-8 are lost even so; ``solve.COLINEAR_SINE`` stays
well above that, which is why no second pass over the gradients is made.

The same rows serve the way back, ``add_combination``: w += a f + b r, again formed in float64, since a f and b r cancel
too when r and f are nearly parallel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Generator, Tensor

from core.hamu.rounding import round_stochastically

ROW = 1024
"""Elements of a row. Tensors are padded to whole rows, so that one kernel reduces many tensors."""

ROWS_ON_CPU = 256
"""Rows of a group on a CPU: 2 x 2 MiB of scratch. Larger ones save no more calls, smaller ones make too many."""

ROWS_ON_DEVICE = 4096
"""Rows of a group elsewhere: large enough to hide a launch, 2 x 32 MiB of scratch."""

Gradients = Sequence[Tensor | None]
"""One gradient a tensor; None stands for zero."""


@dataclass(frozen=True, slots=True)
class Piece:
    """``length`` elements of tensor ``tensor`` from ``start`` on, in memory order."""

    tensor: int
    start: int
    length: int

    @property
    def rows(self) -> int:
        return -(-self.length // ROW)


@dataclass(frozen=True, slots=True)
class Group:
    """Pieces that are worked on together, each starting on a row of its own."""

    pieces: tuple[Piece, ...]
    splits: tuple[int, ...]
    """Alternating length and padding: cuts the flat rows into piece, padding, piece, padding …"""
    owner: Tensor
    """(rows,) tensor that a row belongs to."""
    members: Tensor
    """(tensors, rows) float64: 1 where a row belongs to a tensor. A product with it sums rows in a fixed order."""
    owners: Tensor
    """(tensors,) the tensors of this group, in order."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the tensors are cut into groups. Depends on their shapes and devices only."""

    shapes: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    devices: tuple[torch.device, ...]
    groups: tuple[Group, ...]


def lay_out(tensors: Sequence[Tensor]) -> Layout:
    """Cut ``tensors`` into groups of rows.

    Raises ``ValueError`` for a tensor whose elements overlap or leave gaps in memory.
    """
    for tensor in tensors:
        if not tensor.is_contiguous() and torch.empty_like(tensor, device="meta").stride() != tensor.stride():
            raise ValueError(f"a parameter of shape {tuple(tensor.shape)} is not densely stored")
    groups: list[Group] = []
    waiting: list[Piece] = []
    rows = 0
    for index, tensor in enumerate(tensors):
        limit = ROWS_ON_CPU if tensor.device.type == "cpu" else ROWS_ON_DEVICE
        for start in range(0, tensor.numel(), limit * ROW):
            piece = Piece(index, start, min(limit * ROW, tensor.numel() - start))
            moved = bool(waiting) and tensors[waiting[-1].tensor].device != tensor.device
            if waiting and (moved or rows + piece.rows > limit):
                groups.append(_group(waiting, tensors[waiting[0].tensor].device))
                waiting, rows = [], 0
            waiting.append(piece)
            rows += piece.rows
    if waiting:
        groups.append(_group(waiting, tensors[waiting[0].tensor].device))
    return Layout(
        shapes=tuple(tuple(tensor.shape) for tensor in tensors),
        strides=tuple(tensor.stride() for tensor in tensors),
        devices=tuple(tensor.device for tensor in tensors),
        groups=tuple(groups),
    )


def _group(pieces: Sequence[Piece], device: torch.device) -> Group:
    splits = [size for piece in pieces for size in (piece.length, piece.rows * ROW - piece.length)]
    owner = torch.tensor([piece.tensor for piece in pieces for _ in range(piece.rows)])
    owners = torch.tensor(sorted({piece.tensor for piece in pieces}))
    members = (owners[:, None] == owner[None, :]).to(torch.float64)
    return Group(tuple(pieces), tuple(splits), owner.to(device), members.to(device), owners.to(device))


def gram(layout: Layout, retain: Gradients, forget: Gradients) -> Tensor:
    """(T, 3) float64 on the first tensor's device: columns r·r, f·f, r·f. Reads each gradient once, writes to none."""
    result = torch.zeros(len(layout.shapes), 3, dtype=torch.float64, device=layout.devices[0])
    retain_flat, forget_flat = _flatten(layout, retain), _flatten(layout, forget)
    scratch = _scratch(layout)
    for group in layout.groups:
        r = _pack(group, retain_flat, scratch[group.owner.device][0])
        f = _pack(group, forget_flat, scratch[group.owner.device][1])
        sums = _sums_by_piece(group, r, f) if r.device.type == "cpu" else _sums_by_row(group, r, f)
        result.index_add_(0, group.owners.to(result.device), sums.to(result.device))
    return result


def _sums_by_row(group: Group, r: Tensor, f: Tensor) -> Tensor:
    """(tensors, 3) the group's sums with a fixed number of kernels, however many pieces it has. Overwrites ``r``."""
    rows = torch.stack((_squared_norm(r), _squared_norm(f), r.mul_(f).sum(1)), dim=1)
    return group.members @ rows


def _sums_by_piece(group: Group, r: Tensor, f: Tensor) -> Tensor:
    """(tensors, 3) the same with three BLAS products a piece: on a CPU these only read, and cost little to call."""
    slots = zip(_slots(group, r), _slots(group, f), strict=True)
    return torch.stack([product for x, y in slots for product in (x.dot(x), y.dot(y), x.dot(y))]).view(-1, 3)


def add_combination(
    layout: Layout,
    weights: Sequence[Tensor],
    retain: Gradients,
    forget: Gradients,
    *,
    along_forget: Tensor,
    along_retain: Tensor,
    wanted: Tensor,
    draws: Mapping[torch.device, Generator] | None = None,
) -> None:
    """w += a f + b r in place, with (T,) float64 coefficients a, b; nothing is added where ``wanted`` is False.

    The sum a f + b r is formed in float64 and rounded once to the weights' type. With ``draws``, a generator for each
    device, the weight is added in float64 too and the result rounded stochastically. ``wanted`` is a 0-d bool tensor
    rather than a Python bool so that a step that stops need not be known on the host, and it also keeps the
    non-finite numbers of a failed step out of the weights.
    """
    on_host = wanted.device.type == "cpu"
    if on_host and not bool(wanted):
        return
    weights_flat = _flatten(layout, weights, writable=True)
    retain_flat, forget_flat = _flatten(layout, retain), _flatten(layout, forget)
    stacked = torch.stack((along_retain, along_forget), dim=1)
    pairs = cast("list[list[float]]", stacked.tolist()) if on_host else []  # pyright: ignore[reportUnknownMemberType]
    scratch = _scratch(layout)
    for group in layout.groups:
        device = group.owner.device
        r = _pack(group, retain_flat, scratch[device][0])
        f = _pack(group, forget_flat, scratch[device][1])
        if on_host and device.type == "cpu":
            _combine_by_piece(group, r, f, pairs)
        else:
            _combine_by_row(group, r, f, along_retain.to(device), along_forget.to(device))
            r.masked_fill_(~wanted.to(device), 0.0)
        if draws is None:
            _unpack_add(group, weights_flat, r)
        else:
            _unpack(group, weights_flat, r.add_(_pack(group, weights_flat, f)), draws[device])


def _combine_by_row(group: Group, r: Tensor, f: Tensor, along_retain: Tensor, along_forget: Tensor) -> None:
    """r := b r + a f with a fixed number of kernels and without a number on the host."""
    r.mul_(along_retain[group.owner, None]).addcmul_(f, along_forget[group.owner, None])


def _combine_by_piece(group: Group, r: Tensor, f: Tensor, pairs: Sequence[Sequence[float]]) -> None:
    """r := b r + a f with ``pairs`` (b, a) of each tensor; on a CPU one number a piece is faster than one a row."""
    for piece, x, y in zip(group.pieces, _slots(group, r), _slots(group, f), strict=True):
        b, a = pairs[piece.tensor]
        x.mul_(b).add_(y, alpha=a)


def _squared_norm(rows: Tensor) -> Tensor:
    # The norm of a row is one fused pass over it; a product and a sum would write the squares out first.
    norm = cast("Tensor", torch.linalg.vector_norm(rows, dim=1))  # pyright: ignore[reportUnknownMemberType]
    return norm.square()


def _flatten(layout: Layout, tensors: Gradients, *, writable: bool = False) -> list[Tensor | None]:
    """Each tensor as a vector in the memory order of the weights, so that elements of r, f and w correspond."""
    return [
        None if tensor is None else _memory_order(tensor, strides, writable=writable)
        for tensor, strides in zip(tensors, layout.strides, strict=True)
    ]


def _memory_order(tensor: Tensor, strides: tuple[int, ...], *, writable: bool) -> Tensor:
    tensor = tensor.detach()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    if tensor.stride() != strides:
        if writable:
            raise ValueError("a parameter changed its memory layout after the optimizer was built")
        tensor = tensor.new_empty_strided(tensor.shape, strides).copy_(tensor)
    return tensor.as_strided((tensor.numel(),), (1,))


def _scratch(layout: Layout) -> dict[torch.device, tuple[Tensor, Tensor]]:
    """Two sets of float64 rows for each device, as many as its largest group has."""
    most: dict[torch.device, int] = {}
    for group in layout.groups:
        most[group.owner.device] = max(most.get(group.owner.device, 0), group.owner.numel())
    return {
        device: (
            torch.empty(rows, ROW, dtype=torch.float64, device=device),
            torch.empty(rows, ROW, dtype=torch.float64, device=device),
        )
        for device, rows in most.items()
    }


def _slots(group: Group, rows: Tensor) -> tuple[Tensor, ...]:
    """The group's pieces in ``rows``, without the padding between them."""
    return rows.view(-1).split_with_sizes(group.splits)[::2]


def _pack(group: Group, vectors: Sequence[Tensor | None], scratch: Tensor) -> Tensor:
    """(rows, ROW) float64: the group's pieces, zero where a piece ends or has no gradient. Lies in ``scratch``."""
    rows = scratch[: group.owner.numel()]
    into: list[Tensor] = []
    out_of: list[Tensor] = []
    filled = 0
    for piece, slot in zip(group.pieces, _slots(group, rows), strict=True):
        vector = vectors[piece.tensor]
        if vector is not None:
            into.append(slot)
            out_of.append(vector[piece.start : piece.start + piece.length])
            filled += piece.length
    if filled < rows.numel():
        rows.zero_()
    if into:
        torch._foreach_copy_(into, out_of)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    return rows


def _unpack_add(group: Group, vectors: Sequence[Tensor | None], rows: Tensor) -> None:
    """Add the group's rows to its pieces of ``vectors``, rounded to their type."""
    pieces: list[Tensor] = []
    rounded: list[Tensor] = []
    for piece, slot in zip(group.pieces, _slots(group, rows), strict=True):
        vector = vectors[piece.tensor]
        if vector is not None:
            pieces.append(vector[piece.start : piece.start + piece.length])
            rounded.append(slot.to(vector.dtype))
    torch._foreach_add_(pieces, rounded)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]


def _unpack(group: Group, vectors: Sequence[Tensor | None], rows: Tensor, generator: Generator) -> None:
    """Write the group's rows to its pieces of ``vectors``, rounded stochastically; a type at a time, not a piece."""
    places: dict[torch.dtype, tuple[list[Tensor], list[int]]] = {}
    for number, piece in enumerate(group.pieces):
        vector = vectors[piece.tensor]
        if vector is not None:
            into, numbers = places.setdefault(vector.dtype, ([], []))
            into.append(vector[piece.start : piece.start + piece.length])
            numbers.append(number)
    for dtype, (into, numbers) in places.items():
        slots = _slots(group, round_stochastically(rows, dtype, generator))
        torch._foreach_copy_(into, [slots[i] for i in numbers])  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
