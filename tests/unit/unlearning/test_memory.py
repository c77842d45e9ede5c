"""Memory that runs out costs time, not the result: fewer records at a time, down to one, and then a clear end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from core.unlearning.batches import Batch, Scores
from core.unlearning.bench import Bench
from core.unlearning.memory import NoMemory, is_out_of_memory
from tests.unit.unlearning.peers.tiny import PointFamily, bench_of

POINTS = [(float(i), 1.0 - i, i % 2) for i in range(7)]


@dataclass
class Narrow(PointFamily):
    """A family on a device with room for so many records; it breaks only after the gradients of some have come in."""

    room: int = 2

    def score(self, model: nn.Module, batch: Batch) -> Scores:
        if len(batch.labels) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().score(model, batch)


def bench(room: int, size: int) -> Bench:
    made = bench_of(forget=POINTS, retain=POINTS)
    made.family, made.micro_batch_size = cast("Any", Narrow(room)), size
    with torch.no_grad():
        next(iter(made.model.trainable.values())).copy_(torch.tensor([[0.3, -0.2], [0.1, 0.4]]))
    return made


def gradient(one: Bench, work: Callable[[Bench], Any]) -> torch.Tensor:
    work(one)
    (weight,) = one.model.trainable.values()
    assert weight.grad is not None
    found, weight.grad = weight.grad.clone(), None
    return found


def minibatch(one: Bench) -> list[Batch]:
    return one.batch(list(one.retain))


PASSES: dict[str, Callable[[Bench], Any]] = {
    "retain": lambda one: one.mean_loss(minibatch(one)),
    "forget": lambda one: one.forget_pass(lambda losses, _: losses.square()),
    "any": lambda one: one.forget_mean(lambda batch, _: one.family.score(one.model.model, batch).losses),
}


@pytest.mark.parametrize("name", PASSES)
def test_gradients_are_the_same_with_fewer_records_at_a_time(name: str) -> None:
    wide, narrow = bench(room=9, size=8), bench(room=2, size=8)
    torch.testing.assert_close(gradient(narrow, PASSES[name]), gradient(wide, PASSES[name]))
    assert (wide.micro_batch_size, narrow.micro_batch_size) == (8, 2)
    torch.testing.assert_close(gradient(narrow, PASSES[name]), gradient(wide, PASSES[name]))


def test_gradients_of_a_pass_that_broke_are_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out in the second micro-batch, when those of the first have been added already."""
    wide, narrow = bench(room=9, size=4), bench(room=9, size=4)
    seen: list[int] = []
    real = PointFamily.score

    def second_breaks(self: PointFamily, model: nn.Module, batch: Batch) -> Scores:
        seen.append(len(batch.labels))
        if seen == [4, 3]:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return real(self, model, batch)

    expected = gradient(wide, PASSES["retain"])
    monkeypatch.setattr(PointFamily, "score", second_breaks)
    torch.testing.assert_close(gradient(narrow, PASSES["retain"]), expected)
    assert seen == [4, 3, 2, 2, 2, 1]


def test_what_is_measured_is_the_same_with_fewer_records_at_a_time() -> None:
    wide, narrow = bench(room=9, size=8), bench(room=2, size=8)
    with torch.no_grad():
        values, losses = narrow.forget_pass(lambda losses, _: losses)
    assert losses == pytest.approx(wide.score(wide.forget).losses)
    assert float(values) == pytest.approx(float(losses.mean()))
    narrow.micro_batch_size = 8
    np.testing.assert_allclose(narrow.score(narrow.forget).losses, wide.score(wide.forget).losses)
    assert narrow.micro_batch_size == 2


def test_where_one_record_is_too_much_the_end_is_clear_and_final() -> None:
    none = bench(room=0, size=8)
    with pytest.raises(NoMemory, match="one record at a time") as caught:
        none.mean_loss(minibatch(none))
    assert (caught.value.code, caught.value.retryable) == ("out_of_memory", False)


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError(28, "No space left on device"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_want_of_memory_is_told_from_other_errors(error: Exception, is_it: bool) -> None:
    assert is_out_of_memory(error) is is_it
