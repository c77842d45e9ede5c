"""How far the weights moved.

Direction: small, but not 0: what is published without having moved was not unlearned. Cost: a pass over the weights.
"""

import math
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor


def displacement(before: Mapping[str, Tensor], after: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
    """Euclidean distance of all weights in ``before``, and the same as a share of their norm.

    ``after`` may name more tensors; those are left out. Computed a tensor at a time in float64. The share is 0 for
    weights that are all zero and stayed so, and 1 for weights that were all zero and moved.
    """
    return _distance([squares for _, *squares in _squares(before, after)])


def displacement_by_layer(
    before: Mapping[str, Tensor], after: Iterable[tuple[str, Tensor]]
) -> dict[str, dict[str, float]]:
    """The same for each layer, in the order of ``after``: a layer is the tensors of one module.

    ``a.b.weight`` and ``a.b.bias`` are of layer ``a.b``; a name without a dot is a layer of its own.
    """
    layers: dict[str, list[list[float]]] = {}
    for name, *squares in _squares(before, after):
        layers.setdefault(name.rpartition(".")[0] or name, []).append(squares)
    return {layer: _distance(squares) for layer, squares in layers.items()}


def _squares(before: Mapping[str, Tensor], after: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, float, float]]:
    """Name, squared distance and squared norm before of each tensor in both."""
    for name, tensor in after:
        if name in before:
            start = before[name].detach().double()
            moved = (tensor.detach().to(start.device).double() - start).square().sum()
            yield name, float(moved), float(start.square().sum())


def _distance(squares: Iterable[list[float]]) -> dict[str, float]:
    moved, size = 0.0, 0.0
    for of_tensor in squares:
        moved, size = moved + of_tensor[0], size + of_tensor[1]
    share = math.sqrt(moved / size) if size else float(moved > 0)
    return {"displacement": math.sqrt(moved), "relative_displacement": share}
