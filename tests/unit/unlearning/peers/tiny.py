"""A bench small enough to derive every gradient on paper: two features, two classes, no bias."""

from collections.abc import Iterator, Sequence
from itertools import islice
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.unlearning.batches import Answers, Batch, Example, Scores
from core.unlearning.bench import Bench
from core.unlearning.guard import Baseline
from core.unlearning.job import Parameters
from core.unlearning.peer import Sides

Point = tuple[float, float, int]
"""Two features and the class."""


class Points(list[Example]):
    """A set held in memory."""

    def __init__(self, points: Sequence[Point]) -> None:
        super().__init__(Example(np.float32([a, b]), np.array([label])) for a, b, label in points)

    def chunks(self, size: int) -> Iterator[list[Example]]:
        for i in range(0, len(self), size):
            yield self[i : i + size]

    def take(self, index: Sequence[int]) -> "Points":
        return Points([(*self[i].values.tolist(), int(self[i].labels[0])) for i in sorted(index)])


class Batches:
    """The whole set, again and again."""

    def __init__(self, points: Points) -> None:
        self._points = points
        self.batch_size = len(points)

    def __iter__(self) -> Iterator[list[Example]]:
        while True:
            yield list(self._points)

    def after(self, taken: int) -> Iterator[list[Example]]:
        return islice(self, taken, None)

    def steps(self, epochs: int) -> int:
        return epochs


class PointFamily:
    """Softmax regression."""

    columns = ("point",)

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        points = torch.tensor(np.stack([example.values for example in examples]), device=device)
        return Batch({"input": points}, torch.tensor(np.concatenate([example.labels for example in examples])))

    def score(self, model: nn.Module, batch: Batch) -> Scores:
        logits = model(**batch.inputs)
        losses = F.cross_entropy(logits, batch.labels, reduction="none")
        correct = (logits.argmax(dim=-1) == batch.labels).long()
        return Scores(losses, correct, torch.ones_like(correct))

    def answers(self, model: nn.Module, batch: Batch) -> Answers:
        log_probabilities = F.log_softmax(model(**batch.inputs), dim=-1)[:, None]
        return Answers(log_probabilities, torch.ones(len(batch.labels), 1, dtype=torch.bool))


def bench_of(
    *, forget: Sequence[Point], retain: Sequence[Point], holdout: Sequence[Point] = (), is_adapter: bool = False
) -> Bench:
    model = nn.Linear(2, 2, bias=False)
    nn.init.zeros_(model.weight)
    held = Points(retain)
    loaded = SimpleNamespace(
        model=model.eval(),
        trainable=dict(model.named_parameters()),
        device=torch.device("cpu"),
        is_adapter=is_adapter,
        config=None,
    )
    return Bench(
        model=cast("Any", loaded),
        family=cast("Any", PointFamily()),
        forget=cast("Any", Points(forget)),
        retain=cast("Any", held),
        everyone=cast("Any", Points(holdout)),
        holdout=cast("Any", Points(holdout)),
        retain_batches=cast("Any", Batches(held)),
        micro_batch_size=2,
    )


def baseline_of(bench: Bench) -> Baseline:
    return Baseline(bench.score(bench.forget), bench.score(bench.retain), bench.score(bench.holdout))


def sides_of(bench: Bench, **parameters: Any) -> Sides:
    return Sides(bench, baseline_of(bench), Parameters(**parameters))


def weight_of(bench: Bench) -> Tensor:
    return next(iter(bench.model.trainable.values())).data
