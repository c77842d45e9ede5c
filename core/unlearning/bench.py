"""Everything a run works on: the model, how its records are read, and the three sets."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.evaluation.observations import Observation, joined
from core.evaluation.scores import SetScores
from core.hamu import Closure, Share
from core.unlearning.batches import Batch, Example, ExampleSet, Family, RetainBatches
from core.unlearning.failures import Cancelled
from core.unlearning.memory import fitting, sparing
from core.unlearning.models import LoadedModel
from core.unlearning.ranks import Ranks

Weights = dict[str, Tensor]
"""A copy of the trained weights and of the buffers (BatchNorm statistics), by name, in the host's memory."""

Values = Callable[[Tensor, slice], Tensor]
"""From losses of forget records, (records,) in nats, and their places in the set, to a value for each record."""

T = TypeVar("T")


@dataclass(slots=True)
class Bench:
    """A loaded model and its sets. No more than ``micro_batch_size`` records go through the model at once.

    When memory runs out in a pass over records, that pass is done again with half as many at a time, and so is all
    that follows (``memory``). Raises ``NoMemory`` where one record is too much.

    Where several processes share a run, each goes through its own part of a set and of a minibatch.
    """

    model: LoadedModel
    family: Family
    forget: ExampleSet
    retain: ExampleSet
    """What retain figures are measured on: the retain set or a seeded sample of it."""
    everyone: ExampleSet
    """The same of all that is held out; may be empty."""
    holdout: ExampleSet
    """Those of ``everyone`` that the forget set is compared with."""
    retain_batches: RetainBatches
    micro_batch_size: int
    cancelled: Callable[[], bool] = field(default=lambda: False)
    """Whether this process was told to stop; ``check_cancelled`` asks all of them."""
    ranks: Ranks = field(default_factory=Ranks)

    def check_cancelled(self) -> None:
        """Raises ``Cancelled`` on all processes if one of them was told to stop; all have to call it."""
        if self.ranks.any(self.cancelled()):
            raise Cancelled

    def score(self, examples: ExampleSet) -> SetScores:
        """Losses and right answers of a whole set. Raises ``Cancelled`` after the forward pass at hand."""
        found: list[SetScores] = []
        with torch.no_grad():
            for batch in self._shared_batches(examples):
                found += self._each(batch, lambda part: self.family.score(self.model.model, part).on_host())
        self.check_cancelled()
        return SetScores.joined(self.ranks.gather(found))

    @torch.no_grad()
    def losses(self, examples: list[Example]) -> NDArray[np.float64]:
        """Losses in nats of a few examples at hand, shape (examples,). Raises ``Cancelled``."""
        if self.cancelled():
            raise Cancelled
        parts = [
            losses
            for batch in self.batch(examples)
            for losses in self._each(batch, lambda part: self.family.score(self.model.model, part).losses)
        ]
        return torch.cat(parts).double().cpu().numpy() if parts else np.empty(0)

    @torch.no_grad()
    def observe(self, examples: ExampleSet) -> Observation:
        """The same with what lies behind the scores. Raises ``Cancelled`` after the forward pass at hand."""
        found = [
            observed
            for batch in self._shared_batches(examples)
            for observed in self._each(batch, lambda part: self.family.observe(self.model.model, part))
        ]
        self.check_cancelled()
        return joined(self.ranks.gather(found))

    def batches(self, examples: ExampleSet) -> Iterator[Batch]:
        """The set as consecutive micro-batches on the device. Raises ``Cancelled`` before each."""
        for chunk in examples.chunks(self.micro_batch_size):
            if self.cancelled():
                raise Cancelled
            yield self._collate(chunk)

    def _shared_batches(self, examples: ExampleSet) -> Iterator[Batch]:
        """This process's part of the set in the same way; ends early where it was told to stop."""
        for chunk in self._own(examples).chunks(self.micro_batch_size):
            if self.cancelled():
                return
            yield self._collate(chunk)

    def batch(self, examples: list[Example]) -> list[Batch]:
        """One minibatch as micro-batches on the device."""
        size = self.micro_batch_size
        return [self._collate(examples[i : i + size]) for i in range(0, len(examples), size)]

    def shared_batch(self, examples: list[Example]) -> list[Batch]:
        """This process's part of one minibatch."""
        return self.batch(examples[self.ranks.share(len(examples))])

    def goals(self, batches: list[Batch], values: Values) -> dict[str, Closure]:
        """What HAMU assesses: the mean loss of a ``shared_batch``, and that of ``values`` over the forget set."""
        return {
            "retain_loss": lambda: Share(self.mean_loss(batches), _records(batches)),
            "forget_loss": lambda: Share(self.forget_pass(values)[0], len(self._own(self.forget))),
        }

    @torch.no_grad()
    def reached(self, batches: list[Batch], values: Values) -> tuple[float, float, NDArray[np.float64]]:
        """What the two ``goals`` are now, for the whole minibatch and set, and the losses (n,) of the forget set."""
        retain = self.ranks.mean(self.mean_loss(batches), _records(batches))
        value, losses = self.forget_pass(values)
        forget = self.ranks.mean(value, len(self._own(self.forget)))
        return retain, forget, np.concatenate(self.ranks.gather([losses]))

    def mean_loss(self, batches: list[Batch]) -> Tensor:
        """Mean loss in nats over a minibatch, 0-d; where gradients are on, they are accumulated in ``.grad``."""
        return self.minibatch_mean(batches, lambda batch: self.family.score(self.model.model, batch).losses)

    def minibatch_mean(self, batches: list[Batch], values: Callable[[Batch], Tensor]) -> Tensor:
        """Mean of ``values`` (one a record) over a minibatch, 0-d; gradients as in ``mean_loss``."""
        return self._spared(lambda: self._minibatch_mean(batches, values))

    def _minibatch_mean(self, batches: list[Batch], values: Callable[[Batch], Tensor]) -> Tensor:
        total, records = torch.zeros((), device=self.model.device), _records(batches)
        for batch in fitting(batches, self.micro_batch_size):
            total += _accumulated(values(batch).sum() / records)
        return total

    def forget_pass(self, values: Values) -> tuple[Tensor, NDArray[np.float64]]:
        """Mean of ``values`` (0-d) and losses (n,) of the forget set; gradients as in ``mean_loss``."""
        return self._spared(lambda: self._forget_pass(values))

    def _forget_pass(self, values: Values) -> tuple[Tensor, NDArray[np.float64]]:
        losses: list[Tensor] = []

        def scored(batch: Batch, where: slice) -> Tensor:
            found = self.family.score(self.model.model, batch).losses
            losses.append(found.detach())
            return values(found, where)

        total = self._forget_mean(scored)
        return total, torch.cat(losses).double().cpu().numpy() if losses else np.empty(0)

    def forget_mean(self, values: Callable[[Batch, slice], Tensor]) -> Tensor:
        """Mean of ``values`` (one a record) over the forget set, 0-d; gradients as in ``mean_loss``."""
        return self._spared(lambda: self._forget_mean(values))

    def _forget_mean(self, values: Callable[[Batch, slice], Tensor]) -> Tensor:
        total, records = torch.zeros((), device=self.model.device), len(self._own(self.forget))
        for where, batch in self._forget_batches():
            total += _accumulated(values(batch, where).sum() / records)
        return total

    def _forget_batches(self) -> Iterator[tuple[slice, Batch]]:
        start = self.ranks.share(len(self.forget)).start
        for chunk in self._own(self.forget).chunks(self.micro_batch_size):
            yield slice(start, start + len(chunk)), self._collate(chunk)
            start += len(chunk)

    def _each(self, batch: Batch, work: Callable[[Batch], T]) -> list[T]:
        """``work`` of the batch, or of its parts where it is too large; without gradients."""
        return self._spared(lambda: [work(part) for part in fitting([batch], self.micro_batch_size)])

    def _spared(self, work: Callable[[], T]) -> T:
        """``work`` with as many records at a time as memory allows; ``.grad`` was empty before it."""

        def sized(size: int) -> T:
            self.micro_batch_size = size
            return work()

        found, self.micro_batch_size = sparing(sized, self.micro_batch_size, self._drop_gradients)
        return found

    def _drop_gradients(self) -> None:
        if torch.is_grad_enabled():
            for weight in self.model.trainable.values():
                weight.grad = None

    def copy_weights(self) -> Weights:
        """What the trained weights and the buffers are now."""
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._movable()}

    @torch.no_grad()
    def restore_weights(self, weights: Weights) -> None:
        """Back to what ``copy_weights`` returned."""
        for name, tensor in self._movable():
            tensor.copy_(weights[name])

    def _movable(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.model.trainable.items()
        yield from self.model.model.named_buffers()

    def _own(self, examples: ExampleSet) -> ExampleSet:
        """This process's part of a set."""
        return examples if self.ranks.size == 1 else examples.part(self.ranks.share(len(examples)))

    def _collate(self, examples: list[Example]) -> Batch:
        return self.family.collate(examples, self.model.device)


def _records(batches: list[Batch]) -> int:
    return sum(len(batch.labels) for batch in batches)


def _accumulated(loss: Tensor) -> Tensor:
    """``loss`` without its graph, after its gradients were added to ``.grad`` (if it has any)."""
    if loss.requires_grad:
        torch.autograd.backward(loss)
    return loss.detach()
