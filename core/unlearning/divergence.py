"""How far the new model's answers are from the original's on retained records: KL(original ‖ new).

The original's answers are kept before the run, within a budget of bytes: of a large vocabulary that is a few records.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.evaluation.kl import kl_to_original
from core.unlearning.batches import Answers, ExampleSet
from core.unlearning.bench import Bench

RECORDS = 256
BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Kept:
    """What the original model answered: of each of the first records, (answers, choices) log-probabilities."""

    said: list[NDArray[np.float32]]


def keep(bench: Bench, examples: ExampleSet, *, most_bytes: int = BYTES) -> Kept:
    """The answers to the first of ``examples``, as many as fit; on the host, float32."""
    said: list[NDArray[np.float32]] = []
    room = most_bytes
    with torch.no_grad():
        for batch in bench.batches(examples):
            for answers in _each(bench.family.answers(bench.model.model, batch)):
                room -= answers.numel() * answers.element_size()
                if room < 0:
                    return Kept(said)
                said.append(answers.cpu().numpy())
    return Kept(said)


def divergence(bench: Bench, examples: ExampleSet, kept: Kept) -> NDArray[np.float64]:
    """KL(original ‖ now) in nats of each kept record, shape (records,): the mean over its answers."""
    found: list[float] = []
    with torch.no_grad():
        for batch in bench.batches(examples):
            for now in _each(bench.family.answers(bench.model.model, batch)):
                if len(found) == len(kept.said):
                    return np.array(found)
                found.append(float(kl_to_original(kept.said[len(found)], now.cpu().numpy()).mean()))
    return np.array(found)


def _each(answers: Answers) -> list[Tensor]:
    """(answers, choices) of each record of a batch, what is not scored left out."""
    return [said[scored] for said, scored in zip(answers.log_probabilities, answers.scored, strict=True)]
