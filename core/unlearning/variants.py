"""Losses of other answers to the same prompts, of which the truth ratio is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from core.unlearning.bench import Bench
from core.unlearning.records import Dataset
from core.unlearning.selection import Places
from core.unlearning.text import TextFamily, Variants

RECORDS = 256
"""Of a set, at most, whose other answers are measured."""


@dataclass(frozen=True, slots=True)
class VariantLosses:
    """Mean loss in nats of each record's paraphrase, (n,), and of each of its wrong answers."""

    paraphrase: NDArray[np.float64]
    perturbed: list[NDArray[np.float64]]


def read_variants(dataset: Dataset, family: TextFamily, places: Places) -> list[Variants]:
    """Those of the first records at ``places`` that have other answers. Raises ``BadRecord``."""
    found = (family.variants(record) for record in dataset.read(places))
    return list(islice((variants for variants in found if variants is not None), RECORDS))


def variant_losses(bench: Bench, variants: Sequence[Variants]) -> VariantLosses:
    """One forward pass over all answers. Raises ``Cancelled``."""
    wrong = [bench.losses(each.perturbed) for each in variants]
    return VariantLosses(bench.losses([each.paraphrase for each in variants]), wrong)
