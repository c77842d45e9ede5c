"""Whole jobs with peers on a tiny model: comparable with HAMU's, and retraining exact."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, ResNetForImageClassification

from core.unlearning.batches import RetainBatches
from core.unlearning.images import image_family
from core.unlearning.job import DatasetSource
from core.unlearning.ledger import COLUMNS
from core.unlearning.peers.retrain import warm_cosine
from core.unlearning.records import Dataset
from tests.builders.models import Built, digits_classifier
from tests.unit.unlearning.jobs import job_of, sets_of, start
from tests.unit.unlearning.places import places

WRITER = "writer-03"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return digits_classifier(tmp_path_factory.mktemp("digits"), 0, epochs=25)


def weights_in(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_peer_is_measured_gated_and_reported_like_hamu(digits: Built, tmp_path: Path) -> None:
    loss_alone = {"membership_auc_tolerance": 0.5, "holdout_accuracy_budget": 1.0}
    job = job_of(digits, method="grad_diff", learning_rate=1e-4, **loss_alone)
    outcome, told = start(digits, sets_of(digits, WRITER), tmp_path, job=job)
    assert outcome.stop_reason == "target_reached"
    assert outcome.metrics is not None
    statuses = {gate["name"]: gate["status"] for gate in outcome.gates}
    assert statuses["gap_closed"] == "passed"
    assert "promise_kept" not in statuses
    assert outcome.verdict is not None
    assert outcome.metrics["after"]["promised_forget_gain"] == 0.0
    assert outcome.metrics["after"]["realised_forget_gain"] > 0
    assert outcome.hardness is not None
    assert set(outcome.hardness["branches"].values()) == {0.0}
    assert all(tuple(row) == COLUMNS for row in told.rows)
    assert [row["step"] for row in told.rows] == list(range(1, len(told.rows) + 1))


def test_hamus_rows_have_the_same_columns(digits: Built, tmp_path: Path) -> None:
    _, told = start(digits, sets_of(digits, WRITER), tmp_path, job=job_of(digits, max_steps=2))
    assert all(row.keys() == set(COLUMNS) for row in told.rows)


def test_a_peer_that_forgot_nothing_fails_the_gate(digits: Built, tmp_path: Path) -> None:
    job = job_of(digits, method="fine_tune", max_steps=5)
    outcome, _ = start(digits, sets_of(digits, WRITER), tmp_path, job=job)
    assert outcome.stop_reason == "max_steps"
    assert {gate["name"]: gate["status"] for gate in outcome.gates}["gap_closed"] == "failed"
    assert outcome.verdict == "failed"


def test_retraining_is_training_from_scratch_without_the_forget_set(digits: Built, tmp_path: Path) -> None:
    """Bit for bit what a loop gives that was written for data from which the forget set had been removed."""
    table = pq.read_table(digits.records)
    pq.write_table(table, tmp_path / "all.parquet", row_group_size=len(table))
    sets = sets_of(digits, WRITER)
    settings = {"epochs": 2, "seed": 7, "micro_batch_size": 128, "max_grad_norm": 1e5, "retain_accuracy_budget": 1.0}
    job = job_of(digits, method="retrain", max_steps=1, learning_rate=3e-3, weight_decay=0.01, **settings)
    outcome, told = start(digits, sets, tmp_path / "run", job=job, files=[tmp_path / "all.parquet"])
    assert outcome.failure is None
    kept = table.filter([name == "retain" for name in sets])
    pq.write_table(kept, tmp_path / "kept.parquet", row_group_size=len(kept))
    model = trained_from_scratch(digits, tmp_path / "kept.parquet", len(kept), steps=len(told.rows))
    assert len(told.rows) == -(-2 * len(kept) // 128)
    assert told.lines[-1].phase == "evaluating"
    assert {line.max_steps for line in told.lines if line.phase == "unlearning"} == {len(told.rows)}
    assert same(weights_in(tmp_path / "run" / "out"), model)


def trained_from_scratch(built: Built, records: Path, size: int, *, steps: int) -> dict[str, Tensor]:
    config = AutoConfig.from_pretrained(built.model)
    family = image_family(built.model, config, columns=built.columns, image_shape=built.image_shape)
    source = DatasetSource("parquet", built.columns, (), "", built.image_shape)
    dataset = Dataset(source, [records], family.columns)
    batches = iter(RetainBatches(dataset, family, places(*range(size)), batch_size=128, seed=7))
    torch.manual_seed(7)
    model = ResNetForImageClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    for step in range(steps):
        batch = family.collate(next(batches), torch.device("cpu"))
        losses = F.cross_entropy(model(**batch.inputs).logits, batch.labels, reduction="none")
        optimizer.param_groups[0]["lr"] = 3e-3 * warm_cosine(step, steps)
        optimizer.zero_grad()
        (losses.sum() / len(losses)).backward()
        optimizer.step()
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def test_a_retraining_that_lost_the_retain_set_goes_back_to_every_bit(digits: Built, tmp_path: Path) -> None:
    job = job_of(digits, method="retrain", epochs=1)
    outcome, _ = start(digits, sets_of(digits, WRITER), tmp_path, job=job)
    assert outcome.stop_reason == "retain_budget_exhausted"
    assert same(weights_in(tmp_path / "out"), weights_in(digits.model))


def test_an_unknown_method_is_refused_before_anything_is_loaded(digits: Built, tmp_path: Path) -> None:
    outcome, told = start(digits, sets_of(digits, WRITER), tmp_path, job=job_of(digits, method="magic"))
    assert outcome.failure is not None
    assert outcome.failure.code == "bad_parameters"
    assert "grad_diff" in outcome.failure.message
    assert not told.lines
