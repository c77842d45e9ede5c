"""What a step reads and moves: each gradient twice, clipped or not, and nothing between host and device."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from core.hamu import HAMU

SHAPES = ((700, 800), (31,), (5, 1024))
"""Cut into several groups of rows, less than a row, whole rows."""


class Watch(TorchDispatchMode):
    """Hands every operation that touches numbers, no mere views, to ``seen`` with the tensors it is given."""

    def __init__(self, seen: Callable[[Any, list[Tensor]], None]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.seen(func, [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)])
        return result


def randoms(seed: int, device: str = "cpu") -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(device) for shape in SHAPES]


def handing(weights: list[Tensor], gradients: list[Tensor]) -> Callable[[], Tensor]:
    """A closure that hands over these very tensors, not copies."""

    def closure() -> Tensor:
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        return torch.zeros((), device=weights[0].device)

    return closure


@pytest.fixture
def weights() -> list[Tensor]:
    return [weight.requires_grad_() for weight in randoms(0)]


@pytest.mark.parametrize("max_grad_norm", [None, 0.01])
@pytest.mark.parametrize("options", [{}, {"variant": "u"}, {"block": "model"}, {"rounding": "stochastic"}])
def test_each_gradient_is_read_twice_and_never_written(weights: list[Tensor], max_grad_norm: float | None, options):
    """Once for the three sums, from which the clipping, the solution and the test for non-finite numbers follow, and
    once for the step itself."""
    gradients = [*randoms(1), *randoms(2)]
    before = [gradient.clone() for gradient in gradients]
    place = {gradient.untyped_storage().data_ptr(): number for number, gradient in enumerate(gradients)}
    read: Counter[int] = Counter()

    def seen(_: Any, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            number = place.get(tensor.untyped_storage().data_ptr())
            if number is not None:
                read[number] += tensor.numel()

    optimizer = HAMU(weights, lr=0.1, max_grad_norm=max_grad_norm, stop_rule="none", **options)
    with Watch(seen):
        step = optimizer.step(retain_loss=handing(weights, gradients[:3]), forget_loss=handing(weights, gradients[3:]))
    assert not step.should_stop
    assert read == {number: 2 * gradient.numel() for number, gradient in enumerate(gradients)}
    assert all(torch.equal(now, then) for now, then in zip(gradients, before, strict=True))


def crossings(optimizer: HAMU, weights: list[Tensor]) -> list[Any]:
    """The operations of one step and its retraction that have tensors of two devices."""
    found: list[Any] = []

    def seen(operation: Any, tensors: list[Tensor]) -> None:
        if len({tensor.device for tensor in tensors}) > 1:
            found.append(operation)

    with Watch(seen):
        losses = [handing(weights, randoms(seed, "meta")) for seed in (1, 2)]
        found.clear()
        optimizer.retract(optimizer.step(retain_loss=losses[0], forget_loss=losses[1]))
    return found


@pytest.mark.parametrize("options", [{}, {"variant": "u"}, {"block": "model"}, {"quota": "softmax"}, {"radius": 0.1}])
def test_after_the_first_step_nothing_passes_between_host_and_device(options: dict[str, Any]):
    """The first step copies the layout to the device; a copy in a later one would make the host wait."""
    weights = [torch.empty(shape, device="meta", requires_grad=True) for shape in SHAPES]
    optimizer = HAMU(weights, lr=0.1, **options)
    assert crossings(optimizer, weights)
    assert not crossings(optimizer, weights)
