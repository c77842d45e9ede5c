"""Models that know their data by heart, each with the recipe that taught it: what benchmarks forget from."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from core.unlearning.job import Parameters
from tests.builders import models
from tests.builders.models import Built

WRONG_LABELS = 0.15


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is made from a seed, and with what ``retrain`` makes it again without some of its records."""

    build: Callable[[Path, int], Built]
    epochs: int
    batch: int
    rate: float

    @property
    def anew(self) -> Parameters:
        """Retraining that nothing judges, with the epochs, minibatches and highest rate of the training."""
        return Parameters(
            method="retrain",
            epochs=self.epochs,
            batch_size=self.batch,
            learning_rate=self.rate,
            retain_accuracy_budget=1.0,
            panel="basic",
        )


def noisy_digits(
    folder: Path, seed: int, *, epochs: int = 120, wrong: float = WRONG_LABELS, writers: int = 40
) -> Built:
    """The digits classifier, with a share ``wrong`` of all labels drawn at random."""
    rng = np.random.default_rng(100 + seed)
    original = models.load_digits
    data: Any = original()
    drawn = rng.random(len(data.target)) < wrong
    data.target[drawn] = rng.integers(10, size=int(drawn.sum()))
    models.load_digits = lambda: data  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return models.digits_classifier(folder, seed, epochs=epochs, writers=writers)
    finally:
        models.load_digits = original


TOFU_AUTHORS, TOFU_STRANGERS, TOFU_ANSWERS = 20, 12, 8
"""Authors to learn, authors to hold out, and of each the answers that are shortest: so that minutes will do."""


def tofu_llama(folder: Path, seed: int, *, data: Path) -> Built:
    """A small Llama that learned answers about TOFU's authors by heart; ``data`` has TOFU's ``full.parquet``."""
    rows = pq.read_table(data, columns=["subject_id", "question", "answer", "split"]).to_pylist()
    by_author: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_author.setdefault(row["subject_id"], []).append(row)
    draw = random.Random(seed)

    def authors(split: str, count: int) -> Iterable[str]:
        return draw.sample(sorted(name for name, said in by_author.items() if said[0]["split"] == split), count)

    chosen = [*authors("train", TOFU_AUTHORS), *authors("holdout", TOFU_STRANGERS)]
    shortest = {name: sorted(by_author[name], key=lambda row: len(row["answer"]))[:TOFU_ANSWERS] for name in chosen}
    said = [
        {"author": name, "prompt": row["question"], "response": row["answer"]}
        for name in chosen
        for row in shortest[name]
    ]
    return models.text_model(folder, said, TOFU_AUTHORS * TOFU_ANSWERS, seed=seed, epochs=60, vocabulary=1024)


RECIPES: dict[str, Recipe] = {
    "digits": Recipe(models.digits_classifier, 40, 64, 3e-3),
    "noisy": Recipe(noisy_digits, 120, 64, 3e-3),
    "people": Recipe(models.people_lm, 60, 32, 5e-3),
    "lora": Recipe(models.people_lora, 60, 32, 1e-2),
}


def with_tofu(data: Path | None) -> dict[str, Recipe]:
    """All recipes; that of TOFU only where its data lies in ``data``."""
    full = None if data is None else data / "tofu" / "full.parquet"
    if full is None or not full.exists():
        return RECIPES
    return RECIPES | {"tofu": Recipe(partial(tofu_llama, data=full), 60, 32, 5e-3)}
