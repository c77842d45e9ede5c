"""What a language model says by itself: greedy answers, ROUGE-L, and how it ranks other answers."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from core.unlearning.batches import Batch, Example
from core.unlearning.bench import Bench
from core.unlearning.generation import greedy_answers
from core.unlearning.speaking import other_answers, own_words
from core.unlearning.text import TextFamily, Variants
from tests.builders.models import Built, people_lm
from tests.unit.unlearning.jobs import job_of, prepared, sets_of, start


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return people_lm(tmp_path_factory.mktemp("people"), 0, members=6, strangers=3, epochs=50)


@pytest.fixture(scope="module")
def bench(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return prepared(built, sets_of(built, "person-002"), tmp_path_factory.mktemp("bench"))[1]


def test_answers_are_those_of_one_record_at_a_time(built: Built, bench: Bench) -> None:
    """A loop without padding, cache or library: what is likeliest, appended, again."""
    model = AutoModelForCausalLM.from_pretrained(built.model)
    tokenizer = AutoTokenizer.from_pretrained(built.model)
    rows = [row for row in pq.read_table(built.records).to_pylist() if row["split"] != "train"]
    assert isinstance(bench.family, TextFamily)
    for answer, row in zip(greedy_answers(bench, bench.family, bench.holdout, most=6), rows, strict=False):
        ids = tokenizer(f"{row['prompt']} ", add_special_tokens=False)["input_ids"]
        expected, said = tokenizer(row["response"], add_special_tokens=False)["input_ids"], []
        while len(said) < len(expected):
            with torch.no_grad():
                token = int(model(input_ids=torch.tensor([ids + said])).logits[0, -1].argmax())
            if token == bench.family.end_token:
                break
            said.append(token)
        assert (answer.said.tolist(), answer.expected.tolist()) == (said, expected)


def test_what_is_known_by_heart_is_recited(bench: Bench) -> None:
    known, strange = own_words(bench, bench.forget, most=3), own_words(bench, bench.holdout, most=64)
    assert known == {"generated_records": 3, "rouge_l_recall": 1.0, "rouge_l_f1": 1.0}
    assert strange["generated_records"] == len(bench.holdout)
    assert strange["rouge_l_recall"] < 0.8
    assert own_words(bench, bench.forget, most=0) == {}


def answered(loss: float) -> Example:
    return Example(np.array([loss]), np.array([0]))


def test_the_truth_ratio_of_losses_derived_by_hand() -> None:
    """Wrong answers of mean loss 1.5, a right one of 0.5: TR = e^-1. The other way round it is e, and counts alike."""
    family: Any = SimpleNamespace(
        collate=lambda examples, _: Batch({}, torch.tensor([float(one.values[0]) for one in examples])),
        score=lambda _, batch: SimpleNamespace(losses=batch.labels),
    )
    model: Any = SimpleNamespace(model=nn.Identity(), device=torch.device("cpu"))
    parts: Any = [None] * 5
    bench = Bench(model, family, *parts, micro_batch_size=2)
    knows = Variants(answered(0.5), [answered(1.0), answered(2.0)])
    denies = Variants(answered(1.5), [answered(0.5)])
    found = other_answers(bench, [knows, denies])
    assert found["truth_ratio"] == pytest.approx(math.exp(-1))
    assert found["truth_share"] == pytest.approx((1 / (1 + math.exp(-1)) + 1 / (1 + math.exp(1))) / 2)
    assert found["truth_ratio_records"] == 2
    assert other_answers(bench, []) == {}


def with_other_answers(built: Built, folder: Path) -> Built:
    """The same data set with columns of other answers: the right one again, and what is true of two others.

    The first person's records lack them.
    """
    table = pq.read_table(built.records)
    right = table["response"].to_pylist()
    wrong = [[right[(i + 5) % len(right)], right[(i + 10) % len(right)]] for i in range(len(right))]
    paraphrase = [None if i < 5 else answer for i, answer in enumerate(right)]
    table = table.append_column("again", pa.array(paraphrase, pa.string()))
    pq.write_table(table.append_column("wrong", pa.array(wrong)), folder / "records.parquet")
    columns = {**built.columns, "paraphrase": "again", "perturbed": "wrong"}
    return replace(built, records=folder / "records.parquet", columns=columns)


def test_a_whole_run_carries_the_truth_ratio_where_the_data_set_names_other_answers(
    built: Built, tmp_path: Path
) -> None:
    sets = sets_of(built, "person-002")
    told = with_other_answers(built, tmp_path)
    job = job_of(told, generated_records=0, max_steps=60)
    outcome, _ = start(told, sets, tmp_path / "run", job=job)
    assert outcome.metrics is not None
    before, after = outcome.metrics["before"], outcome.metrics["after"]
    counts = [before[name]["truth_ratio_records"] for name in ("forget", "retain", "holdout")]
    assert counts == [5, 20, 15]  # 25 are retained, 5 of them without other answers
    assert before["forget"]["truth_share"] > before["holdout"]["truth_share"] + 0.2
    assert after["forget"]["truth_share"] < before["forget"]["truth_share"] - 0.05
    assert 0 < after["forget"]["truth_ratio"] != before["forget"]["truth_ratio"] <= 1
    assert after["retain"]["truth_share"] > before["retain"]["truth_share"] - 0.1
