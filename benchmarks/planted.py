"""Engines that forget nothing and say that they did: what the evidence must not be taken in by.

Each takes one step, writes a row that claims a kept promise, and ends with ``target_reached``.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from core.unlearning import run as story
from core.unlearning.bench import Bench
from core.unlearning.course import Course
from core.unlearning.guard import Baseline
from core.unlearning.job import Parameters, StopReason
from core.unlearning.ledger import COLUMNS, Row

_CLAIMED = 1e-9
"""Gain that a planted engine says it promised and kept: so little that any rise keeps it."""

Engine = Callable[[Bench, Baseline, Parameters], Course]


class Planted(Course):
    """One step of tampering."""

    def _step(self) -> tuple[Row | None, StopReason | None]:
        with torch.no_grad():
            self._tamper(torch.Generator().manual_seed(self._parameters.seed))
        row: Row = {**dict.fromkeys(COLUMNS), "step": 1, "kind": "forget", "accepted": True, "retries": 0}
        row |= {"promised_forget_gain": _CLAIMED, "realised_forget_gain": _CLAIMED, "seconds": 0.0}
        return row, "target_reached"

    def _reason_to_stop(self) -> StopReason | None:
        return None

    def _settle(self, reason: StopReason) -> bool:
        del reason
        return True

    @abstractmethod
    def _tamper(self, random: torch.Generator) -> None:
        """Do to the weights whatever is not unlearning."""

    @property
    def _weights(self) -> list[Tensor]:
        return list(self._bench.model.trainable.values())


class Nothing(Planted):
    """Leaves every weight as it is."""

    def _tamper(self, random: torch.Generator) -> None:
        del random


class Scale(Planted):
    """Multiplies every weight by 1 + 1e-6."""

    def _tamper(self, random: torch.Generator) -> None:
        del random
        for weight in self._weights:
            weight.mul_(1 + 1e-6)


class Dull(Planted):
    """Makes the model less sure of everything until the mean loss of the forget set is where the holdout's is.

    The strongest of them: one factor on the last layer, found by bisection, so that the forget loss looks right.
    """

    def _tamper(self, random: torch.Generator) -> None:
        del random
        layer = self._weights[-2:] if self._weights[-1].ndim == 1 else self._weights[-1:]
        kept = [weight.clone() for weight in layer]
        low, high = 0.0, 1.0
        for _ in range(20):
            middle = (low + high) / 2
            for weight, start in zip(layer, kept, strict=True):
                weight.copy_(start * middle)
            goal = self._baseline.holdout.loss
            low, high = (low, middle) if self._bench.score(self._bench.forget).loss < goal else (middle, high)


def noise(share: float) -> type[Planted]:
    """An engine that adds normal noise of ``share`` times each tensor's root mean square."""

    class Noise(Planted):
        def _tamper(self, random: torch.Generator) -> None:
            for weight in self._weights:
                drawn = torch.randn(weight.shape, generator=random).to(weight)
                weight.add_(drawn * (share * weight.square().mean().sqrt()))

    return Noise


def copied(folder: Path) -> type[Planted]:
    """An engine that puts the model that lies in ``folder`` in the place of the given one: no lie, if that forgot."""
    saved = load_file(folder / "model.safetensors")

    class Copied(Planted):
        def _tamper(self, random: torch.Generator) -> None:
            del random
            found = self._bench.model.model.load_state_dict(saved, strict=False)  # tied weights are saved once
            assert not found.unexpected_keys

    return Copied


ENGINES: dict[str, Engine] = {
    "nothing": Nothing,
    "scale 1+1e-6": Scale,
    "noise 1e-6": noise(1e-6),
    "noise 1e-3": noise(1e-3),
    "noise 1e-2": noise(1e-2),
    "noise 1e-1": noise(1e-1),
    "noise 3e-1": noise(3e-1),
    "dull": Dull,
}


@contextmanager
def planted(engine: Engine) -> Iterator[None]:
    """Inside, every job runs ``engine`` in the place of its method."""
    original = story._course
    story._course = lambda _job, bench, baseline: engine(bench, baseline, _job.parameters)
    try:
        yield
    finally:
        story._course = original
