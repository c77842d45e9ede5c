"""Training a problem's model, and the bench on which all methods work on it, in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.shapes.problems import Indices, Problem, minibatches
from core.unlearning.batches import Example
from core.unlearning.bench import Bench
from core.unlearning.models import LoadedModel

CPU = torch.device("cpu")
MICRO_BATCH = 64


@dataclass(frozen=True, slots=True)
class Examples:
    """Records in memory, in the place of an ``ExampleSet``."""

    held: list[Example]

    def __len__(self) -> int:
        return len(self.held)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.held)

    def chunks(self, size: int) -> Iterator[list[Example]]:
        """Consecutive lists of ``size`` examples; the last may be shorter."""
        examples = iter(self)
        while chunk := list(islice(examples, size)):
            yield chunk


@dataclass(frozen=True, slots=True)
class Batches:
    """Endless retain batches, in the place of ``RetainBatches``."""

    held: list[Example]
    size: int

    def steps(self, epochs: int) -> int:
        """How many batches hold every record ``epochs`` times."""
        return epochs * -(-len(self.held) // self.size)

    def __iter__(self) -> Iterator[list[Example]]:
        for epoch in count():
            for places in minibatches(len(self.held), self.size, 1, seed=epoch):
                yield [self.held[i] for i in places]


def trained(problem: Problem, epochs: int, cache: Path, *, seed: int = 0) -> nn.Module:
    """The problem's model after ``epochs`` over all of its records; read from ``cache`` if it lies there."""
    torch.manual_seed(seed)
    model = problem.build()
    path = cache / f"{problem.name}-{len(problem.examples)}-{epochs}-{seed}.safetensors"
    if path.exists():
        model.load_state_dict(load_file(path), strict=False)  # a tied weight is stored once
        return model.eval()
    bench = bench_of(problem, model, *problem.split(0.0), measured=0)
    steps = list(minibatches(len(problem.examples), problem.size.batch, epochs, seed=seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=problem.size.peak, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, problem.size.peak, total_steps=len(steps))
    model.train()
    for places in steps:
        optimizer.zero_grad()
        bench.mean_loss(bench.batch(problem.pick(places)))
        optimizer.step()
        schedule.step()
    model.eval()
    cache.mkdir(parents=True, exist_ok=True)
    tied = {"lm_head.weight"} if getattr(problem.config, "tie_word_embeddings", False) else set()
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied}, path)
    return model


def bench_of(problem: Problem, model: nn.Module, forget: Indices, retain: Indices, *, measured: int) -> Bench:
    """A bench over a split. Retain figures are those of its first ``measured`` retain records."""
    loaded = LoadedModel(model, Path(), problem.config, CPU, {}, False)
    kept = problem.pick(retain)
    in_memory: dict[str, Any] = {
        "forget": Examples(problem.pick(forget)),
        "retain": Examples(kept[:measured]),
        "everyone": Examples([]),
        "holdout": Examples([]),
        "retain_batches": Batches(kept, problem.size.batch),
    }
    return Bench(model=loaded, family=problem.family, micro_batch_size=MICRO_BATCH, **in_memory)


class Losses(TypedDict):
    """What ``HAMU.step`` and ``HAMU.assess`` take."""

    retain_loss: Callable[[], Tensor]
    forget_loss: Callable[[], Tensor]


def fixed_losses(bench: Bench, retain: int) -> Losses:
    """The mean loss of the whole forget set and of the first ``retain`` retain records: without sampling noise."""
    batch = bench.batch(list(islice(bench.retain, retain)))
    return Losses(
        retain_loss=lambda: bench.mean_loss(batch),
        forget_loss=lambda: bench.forget_pass(lambda losses, _: losses)[0],
    )
