"""What half precision leaves of a run's promise: weights kept in bfloat16, or in float32 and rounded when saved.

    OMP_NUM_THREADS=1 python -m benchmarks.precision [--case NAME …] [--gain NATS …] [--steps N] [--seed N]

A model learns its records by heart, is rounded to bfloat16 as if it had been stored so, and forgets some of them in N
steps of HAMU-Q. The rate of each step is set so that it promises the N-th part of ``--gain``, whatever the model. Ways:

    naive        weights in bfloat16, every step rounded to the nearest
    stochastic   weights in bfloat16, ``HAMU(..., rounding="stochastic")``
    float32      weights in float32, not rounded at all: what the next two start from
    → nearest    the same, rounded to the nearest bfloat16 once, at the end
    → drawn      the same, rounded stochastically once, at the end

Losses are measured in float32 with the weights as they would be saved. ``kept`` is the realised gain of the forget loss
over the promised, ``moved`` the share of weights that differ from where they began, ``‖Δ‖`` their distance from there.
"""

import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.step_cases import SMALL_LLAMA, llama, resnet20
from core.hamu import HAMU
from core.hamu.rounding import round_stochastically

STORED = torch.bfloat16
TINY_LLAMA = {"vocab_size": 512, "hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 2}
TINY_LLAMA |= {"num_attention_heads": 4, "num_key_value_heads": 4}


@dataclass(frozen=True, slots=True)
class Records:
    """Inputs and targets of all records; the first ``forget`` are to be forgotten."""

    inputs: Tensor
    targets: Tensor
    forget: int

    def part(self, which: slice | Tensor) -> "Records":
        return replace(self, inputs=self.inputs[which], targets=self.targets[which])


@dataclass(frozen=True, slots=True)
class Case:
    """A model with its records and how it learns them."""

    build: Callable[[], nn.Module]
    records: Callable[[], Records]
    loss: Callable[[nn.Module, Records], Tensor]
    epochs: int
    rate: float
    batch: int


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of HAMU steps left: the model and what its steps promised in nats."""

    model: nn.Module
    promised: float


def digits() -> Records:
    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8).expand(-1, 3, -1, -1) / 8 - 1
    return Records(pixels[:1000], torch.tensor(labels)[:1000], forget=40)


def sentences(count: int, vocabulary: int) -> Records:
    """Random ones: they can only be known by heart."""
    ids = torch.randint(vocabulary, (count, 24))
    return Records(ids, ids[:, 1:], forget=count // 8)


def image_loss(model: nn.Module, records: Records) -> Tensor:
    dtype = next(model.parameters()).dtype
    return functional.cross_entropy(model(records.inputs.to(dtype)).float(), records.targets)


def text_loss(model: nn.Module, records: Records) -> Tensor:
    logits = model(input_ids=records.inputs).logits[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1).float(), records.targets.flatten())


CASES = {
    "resnet20": Case(resnet20, digits, image_loss, epochs=12, rate=3e-3, batch=50),
    "llama-tiny": Case(
        lambda: llama(TINY_LLAMA), lambda: sentences(128, 512), text_loss, epochs=40, rate=3e-3, batch=32
    ),
    "llama-30m": Case(
        lambda: llama(SMALL_LLAMA), lambda: sentences(32, 8192), text_loss, epochs=15, rate=1e-3, batch=16
    ),
}


def learn(case: Case, records: Records) -> nn.Module:
    """A model that knows the records, on bfloat16 numbers."""
    model = case.build().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=case.rate, weight_decay=0.0)
    for _ in range(case.epochs):
        for chosen in torch.randperm(len(records.targets)).split(case.batch):
            optimizer.zero_grad()
            case.loss(model, records.part(chosen)).backward()
            optimizer.step()
    return model.eval().to(STORED)


def unlearn(case: Case, model: nn.Module, records: Records, *, gain: float, steps: int, rounding: str) -> Run:
    """``steps`` steps that promise ``gain`` nats together, from the full forget gradient and retain batches in turn."""
    forget, retain = records.part(slice(records.forget)), records.part(slice(records.forget, None))
    batches = [retain.part(chosen) for chosen in torch.randperm(len(retain.targets)).split(case.batch)]
    optimizer = HAMU(model.parameters(), rounding=rounding, stop_rule="none")  # pyright: ignore[reportArgumentType]
    promised = 0.0
    for number in range(steps):
        batch = batches[number % len(batches)]
        assessment = optimizer.assess(
            retain_loss=lambda batch=batch: case.loss(model, batch), forget_loss=lambda: case.loss(model, forget)
        )
        dial = optimizer.param_groups[0]
        dial["lr"] *= gain / steps / float(optimizer.plan(assessment).promised_forget_gain)
        promised += float(optimizer.apply(assessment).promised_forget_gain)
    optimizer.release()
    return Run(model, promised)


def rounded(run: Run, draws: torch.Generator | None) -> Run:
    """The run with its weights on bfloat16 numbers: the nearest, or drawn."""
    model = copy.deepcopy(run.model)
    with torch.no_grad():
        for weight in model.parameters():
            exact = weight.double()
            weight.copy_(exact.to(STORED) if draws is None else round_stochastically(exact, STORED, draws))
    return replace(run, model=model)


def ways(case: Case, stored: nn.Module, records: Records, *, gain: float, steps: int, seed: int) -> dict[str, Run]:
    """The five ways, all from the same stored model and with the same batches."""

    def run(dtype: torch.dtype, rounding: str) -> Run:
        torch.manual_seed(seed)
        model = copy.deepcopy(stored).to(dtype)
        return unlearn(case, model, records, gain=gain, steps=steps, rounding=rounding)

    masters = run(torch.float32, "nearest")
    return {
        "naive": run(STORED, "nearest"),
        "stochastic": run(STORED, "stochastic"),
        "float32": masters,
        "→ nearest": rounded(masters, None),
        "→ drawn": rounded(masters, torch.Generator().manual_seed(seed)),
    }


@torch.no_grad()
def line(case: Case, name: str, run: Run, start: nn.Module, records: Records) -> str:
    """What the saved weights of a run gained, cost and moved."""
    sets = [records.part(slice(records.forget)), records.part(slice(records.forget, None))]
    model = copy.deepcopy(run.model).float()
    forget, retain = (float(case.loss(model, part) - case.loss(start, part)) for part in sets)
    pairs = [(w.double(), v.double()) for w, v in zip(model.parameters(), start.parameters(), strict=True)]
    moved = sum(int((w != v).sum()) for w, v in pairs) / sum(w.numel() for w, _ in pairs)
    distance = sum(float((w - v).square().sum()) for w, v in pairs) ** 0.5
    kept = forget / run.promised
    return f"{name:12}{run.promised:9.4f}{forget:9.4f}{kept:8.3f}{retain:+10.4f}{moved:8.1%}{distance:11.5f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train each case once and print a table for each gain."""
    parser = argparse.ArgumentParser(description="What half precision leaves of a promise.")
    parser.add_argument("--case", nargs="+", choices=list(CASES), default=["resnet20", "llama-tiny"])
    parser.add_argument("--gain", nargs="+", type=float, default=[0.001, 0.01, 0.1], help="nats promised in all")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    for name in options.case:
        case = CASES[name]
        torch.manual_seed(options.seed)
        records = case.records()
        stored = learn(case, records)
        start = copy.deepcopy(stored).float()
        for gain in options.gain:
            print(f"{name}, {options.steps} steps that promise {gain} nats")
            print(f"{'':12}{'promised':>9}{'gained':>9}{'kept':>8}{'retain':>10}{'moved':>8}{'‖Δ‖':>11}", flush=True)
            found = ways(case, stored, records, gain=gain, steps=options.steps, seed=options.seed)
            for way, run in found.items():
                print(line(case, way, run, start, records), flush=True)


if __name__ == "__main__":
    main()
