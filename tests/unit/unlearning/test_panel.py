"""The panel tells an original, a retrained, an untouched and a destroyed model apart, and leaves each as it was."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from core.unlearning.bench import Bench
from core.unlearning.course import Run
from core.unlearning.failures import UnlearningError
from core.unlearning.job import Parameters
from core.unlearning.panel import Evidence, Panel
from core.unlearning.peers.retrain import redraw
from core.unlearning.reference import check_reference, retrained
from tests.builders import models
from tests.builders.models import Built, digits_classifier
from tests.unit.unlearning.jobs import prepared, sets_of

RECORDS, WRITERS, EPOCHS = 700, 6, 40
RETRAINING = {"method": "retrain", "epochs": EPOCHS, "learning_rate": 3e-3, "batch_size": 64}


def noisy_digits() -> Any:
    """Half of the labels are drawn at random: what a model knows of those it can only know by heart."""
    rng = np.random.default_rng(100)  # not the stream that chooses the holdout
    data = load_digits()
    labels = data.target[:RECORDS].copy()
    wrong = rng.random(RECORDS) < 0.5
    labels[wrong] = rng.integers(10, size=int(wrong.sum()))
    return SimpleNamespace(images=data.images[:RECORDS], target=labels)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load_digits", noisy_digits)
        return digits_classifier(tmp_path_factory.mktemp("noisy"), 0, writers=WRITERS, epochs=EPOCHS)


def opened(built: Built, folder: Path, *, sets: Sequence[str] | None = None, **parameters: Any) -> Panel:
    """The panel of a job, with what it keeps of the original model."""
    job, bench, extras = prepared(built, sets or sets_of(built, "writer-03"), folder, **parameters)
    panel = Panel(job, bench, extras)
    panel.remember()
    return panel


@pytest.fixture(scope="module")
def panel(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Panel:
    return opened(built, tmp_path_factory.mktemp("panel"), **RETRAINING)


@pytest.fixture(scope="module")
def twin(panel: Panel) -> Bench:
    """The model that never met the forget set."""
    return retrained(panel.bench, panel.baseline, panel._job.parameters)


def judged(panel: Panel, change: Callable[[nn.Module], object]) -> Evidence:
    """What the panel says of a changed model, whose every bit it leaves; the original comes back afterwards."""
    model = panel.bench.model.model
    original = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        change(model)
        changed = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        evidence = panel.close(Run("target_reached", [], rolled_back=False))
        assert all(torch.equal(tensor, changed[name]) for name, tensor in model.state_dict().items())
    finally:
        model.load_state_dict(original)
    json.dumps([evidence.metrics, [gate.as_dict() for gate in evidence.gates], evidence.records], allow_nan=False)
    return evidence


def untouched(_: nn.Module) -> None:
    """The original, as it is."""


def with_status(evidence: Evidence, status: str) -> set[str]:
    return {gate.name for gate in evidence.gates if gate.status == status}


def test_a_retrained_model_fails_no_gate(panel: Panel, twin: Bench) -> None:
    evidence = judged(panel, lambda model: model.load_state_dict(twin.model.model.state_dict()))
    assert with_status(evidence, "failed") == set()
    assert {"displacement", "gap_closed", "specificity", "retain_accuracy_drop"} <= with_status(evidence, "passed")
    assert evidence.verdict.verdict == "passed_with_warnings"  # a hundred records leave wide intervals


@pytest.mark.parametrize(
    "change",
    [
        untouched,
        lambda model: [weight.data.mul_(1 + 1e-6) for weight in model.parameters()],
        lambda model: [weight.data.add_(1e-6 * torch.randn_like(weight)) for weight in model.parameters()],
    ],
    ids=["untouched", "scaled", "noise"],
)
def test_a_model_that_forgot_nothing_fails_to_have_changed(panel: Panel, change: Callable[[nn.Module], object]) -> None:
    evidence = judged(panel, change)
    assert {"gap_closed", "specificity", "forget_loss_ratio", "membership_auc_loss"} <= with_status(evidence, "failed")
    assert evidence.verdict.verdict == "failed"


def test_a_destroyed_model_fails_to_be_useful_and_to_have_forgotten_in_particular(panel: Panel) -> None:
    evidence = judged(panel, lambda _: redraw(panel.bench.model))
    assert {"specificity", "retain_accuracy_drop", "holdout_accuracy_drop"} <= with_status(evidence, "failed")
    assert evidence.verdict.verdict == "failed"


def test_neither_control_passes_even_beside_a_good_model(panel: Panel, twin: Bench) -> None:
    controls = judged(panel, lambda model: model.load_state_dict(twin.model.model.state_dict())).metrics["controls"]
    assert controls["no_op"]["verdict"] == "failed"
    assert {gate["name"]: gate["status"] for gate in controls["no_op"]["gates"]}["displacement"] == "failed"
    assert controls["placebo"]["verdict"] == "failed"
    assert controls["placebo"]["records"] == len(panel.bench.forget)
    assert controls["placebo"]["specificity"] > 0.001  # the margin
    assert controls["placebo"]["loss_after"] < 1


def test_a_run_is_compared_with_its_reference(panel: Panel, twin: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.unlearning.panel.retrained", lambda *_: twin)  # trained once for all tests
    asked = copy.copy(panel)
    asked._job = replace(panel._job, parameters=replace(panel._job.parameters, reference="retrain"))
    evidence = judged(asked, lambda model: model.load_state_dict(twin.model.model.state_dict()))
    reference = evidence.metrics["reference"]
    assert (reference["ks_p_value"], reference["tug_of_war"], reference["average_gap"]) == (1.0, 1.0, 0.0)
    assert reference["forget_loss"] == pytest.approx(evidence.metrics["after"]["forget"]["loss"])
    unlike = judged(asked, untouched).metrics["reference"]
    assert unlike["ks_p_value"] < 1e-6
    assert unlike["average_gap"] > 0.1


def test_every_forget_record_has_a_row_and_the_best_known_come_first(panel: Panel, twin: Bench) -> None:
    evidence = judged(panel, lambda model: model.load_state_dict(twin.model.model.state_dict()))
    rows = evidence.records
    assert {row["record_id"] for row in rows} == set(panel._extras.record_ids)
    assert len(rows) == len(panel.bench.forget)
    assert [row["percentile"] for row in rows] == sorted(row["percentile"] for row in rows)
    assert np.mean([row["loss_after"] for row in rows]) == pytest.approx(evidence.metrics["after"]["forget"]["loss"])
    assert np.mean([row["correct_after"] for row in rows]) == evidence.metrics["after"]["forget"]["accuracy"]
    assert [row["record_id"] for row in evidence.metrics["worst_records"]] == [row["record_id"] for row in rows[:10]]


def test_the_run_aims_at_the_matched_holdout(panel: Panel) -> None:
    matched = [int(example.labels[0]) for example in panel.bench.holdout]
    forgotten = [int(example.labels[0]) for example in panel.bench.forget]
    assert len(matched) == len(panel.baseline.holdout) == len(panel.matching.holdout) < len(panel.bench.everyone)
    shares = [np.bincount(labels, minlength=10) / len(labels) for labels in (matched, forgotten)]
    assert np.abs(shares[0] - shares[1]).max() < 0.05  # as many of each class, less the few that found none


def test_a_basic_panel_attacks_nothing(built: Built, tmp_path: Path) -> None:
    evidence = judged(opened(built, tmp_path, panel="basic", **RETRAINING), untouched)
    assert evidence.metrics["attacks"] is None
    assert not {gate.name for gate in evidence.gates if gate.group == "G5"}


def test_earlier_deletions_are_looked_at_again_one_by_one_and_judged_together(panel: Panel) -> None:
    asked = copy.copy(panel)
    strangers, known = panel.bench.everyone.take(np.arange(15)), panel.bench.retain.take(np.arange(45))
    asked._extras = replace(panel._extras, earlier={"run_1": strangers, "run_2": known})
    evidence = judged(asked, untouched)
    ratios = {run: block["loss_ratio"]["value"] for run, block in evidence.metrics["earlier"].items()}
    assert ratios["run_2"] < 0.2 < ratios["run_1"]  # known by heart: this one has come back
    (gate,) = [gate for gate in evidence.gates if gate.name == "earlier_deletions"]
    assert gate.value == pytest.approx((ratios["run_1"] + 3 * ratios["run_2"]) / 4, abs=0.15)
    assert gate.status == "failed"


def test_people_whom_a_model_never_met_are_no_deletions_come_back(panel: Panel, twin: Bench) -> None:
    """Each has so few records that one of them seems known; together they do not."""
    asked = copy.copy(panel)
    forget = panel.bench.forget
    few = {f"run_{i}": forget.take(np.arange(i, len(forget), 20)) for i in range(20)}
    asked._extras = replace(panel._extras, earlier=few)
    evidence = judged(asked, lambda model: model.load_state_dict(twin.model.model.state_dict()))
    lowest = min(block["loss_ratio"]["value"] for block in evidence.metrics["earlier"].values())
    (gate,) = [gate for gate in evidence.gates if gate.name == "earlier_deletions"]
    assert lowest < 0.8 <= gate.high
    assert gate.status != "failed"


def test_without_a_match_for_most_records_nothing_is_proven(built: Built, tmp_path: Path) -> None:
    table, sets = pq.read_table(built.records), sets_of(built, "writer-03")
    odd = {2 * i + 1 for i in range(5)}
    kept = [
        "" if which == "holdout" and label in odd else which
        for which, label in zip(sets, table["label"].to_pylist(), strict=True)
    ]
    panel = opened(built, tmp_path, sets=kept, panel="basic", **RETRAINING)
    assert panel.matching.share < 0.8
    assert len(panel.baseline.holdout) == kept.count("holdout")  # better than nothing to aim at
    evidence = judged(panel, untouched)
    assert "There is no matched holdout to compare the forget set with." in evidence.verdict.reasons


def test_too_large_a_model_or_an_adapter_has_no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    small: Any = SimpleNamespace(model=nn.Linear(3, 3), is_adapter=False)
    check_reference(small, Parameters(reference="retrain"))
    monkeypatch.setattr("core.unlearning.reference.MOST_WEIGHTS", 11)
    with pytest.raises(UnlearningError, match="at most 11 weights; this one has 12"):
        check_reference(small, Parameters(reference="retrain"))
    check_reference(small, Parameters())
    with pytest.raises(UnlearningError, match="full weights"):
        check_reference(cast("Any", SimpleNamespace(is_adapter=True)), Parameters(reference="retrain"))
