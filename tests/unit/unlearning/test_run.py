"""Whole jobs on tiny models: target reached, retain set kept, promises held, failures explained."""

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from core.evaluation.scores import SetScores
from core.unlearning import preparing
from core.unlearning.batches import Family
from core.unlearning.bench import Bench
from core.unlearning.dials import ACCEPT_SHARE
from core.unlearning.job import Outcome
from tests.builders.models import Built, digits_classifier, people_lm
from tests.unit.unlearning.jobs import Told, job_of, sets_of, start
from tests.unit.unlearning.places import write_jsonl


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return digits_classifier(tmp_path_factory.mktemp("digits"), 0, epochs=25)


@pytest.fixture(scope="module")
def persons(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return people_lm(tmp_path_factory.mktemp("people"), 0, members=10, strangers=6, epochs=50)


@pytest.fixture(scope="module")
def digits_run(digits: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Told, Path]:
    folder = tmp_path_factory.mktemp("run")
    return *start(digits, sets_of(digits, "writer-03"), folder), folder / "out"


@pytest.fixture(scope="module")
def people_run(persons: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Told, Path]:
    folder = tmp_path_factory.mktemp("run")
    return *start(persons, sets_of(persons, "person-002"), folder), folder / "out"


@pytest.mark.parametrize("run", ["digits_run", "people_run"])
def test_the_forget_set_reaches_the_holdouts_loss_and_the_retain_set_stays(
    run: str, request: pytest.FixtureRequest
) -> None:
    outcome, _, _ = request.getfixturevalue(run)
    assert outcome.failure is None
    assert outcome.stop_reason == "target_reached"
    before, after = outcome.metrics["before"], outcome.metrics["after"]
    assert 0.8 <= after["forget"]["loss"] / after["holdout"]["loss"] <= 1.2
    assert 0.8 <= after["forget"]["loss"] / before["holdout"]["loss"] <= 1.2
    assert before["retain"]["accuracy"] - after["retain"]["accuracy"] <= 0.01
    statuses = {gate["name"]: gate["status"] for gate in outcome.gates}
    counted = {gate["name"] for gate in outcome.gates if gate["severity"] != "advisory"}
    assert not [name for name in counted if statuses[name] == "failed"]
    assert {statuses[gate["name"]] for gate in outcome.gates if gate["severity"] == "required"} == {"passed"}
    assert outcome.verdict == "passed_with_warnings"  # so few records leave wide intervals


def test_both_controls_fail_and_every_attack_is_there(digits_run: tuple[Outcome, Told, Path]) -> None:
    metrics = digits_run[0].metrics
    assert metrics is not None
    assert {name: control["verdict"] for name, control in metrics["controls"].items()} == {
        "no_op": "failed",
        "placebo": "failed",
    }
    assert metrics["matching"]["by"] == "class"
    assert metrics["matching"]["matched_share"] >= 0.8
    assert set(metrics["attacks"]["quantisation"]) == {"int8", "int4"}
    assert len(metrics["attacks"]["relearning"]["forget"]) == len(metrics["attacks"]["relearning"]["control"]) == 11
    assert metrics["kl_to_original"]["records"] == 256
    assert 0 < metrics["kl_to_original"]["value"] < 0.1
    layers = metrics["after"]["displacement_by_layer"].values()
    total = sum(layer["displacement"] ** 2 for layer in layers) ** 0.5
    assert total == pytest.approx(metrics["after"]["displacement"])
    assert len(digits_run[0].records) == digits_run[0].forget_records
    assert metrics["after"]["scores"]["forget"]["edges"] == metrics["after"]["scores"]["holdout"]["edges"]


def test_a_language_model_recites_before_and_no_longer_after(people_run: tuple[Outcome, Told, Path]) -> None:
    metrics = people_run[0].metrics
    assert metrics is not None
    before, after = metrics["before"], metrics["after"]
    assert before["forget"]["rouge_l_recall"] > 0.9
    assert before["forget"]["extraction_strength"] > 0.9
    assert after["forget"]["rouge_l_recall"] < before["forget"]["rouge_l_recall"] - 0.1
    assert after["forget"]["extraction_strength"] < 0.7
    assert after["retain"]["rouge_l_recall"] > 0.9
    assert before["forget"]["generated_records"] == people_run[0].forget_records
    assert metrics["matching"]["by"] == "length"
    measured = after["measurements"]
    assert {"extraction_gap", "membership_auc_min_k_plus", "retain_perplexity_ratio"} <= set(measured)


@pytest.mark.parametrize("run", ["digits_run", "people_run"])
def test_every_accepted_step_kept_its_share_of_its_promise(run: str, request: pytest.FixtureRequest) -> None:
    outcome, told, _ = request.getfixturevalue(run)
    kept = [row for row in told.rows if row["accepted"]]
    assert kept
    for row in kept:
        assert row["realised_forget_gain"] >= ACCEPT_SHARE * row["promised_forget_gain"] - 1e-5
    promised = sum(row["promised_forget_gain"] for row in kept)
    assert outcome.metrics["after"]["promised_forget_gain"] == pytest.approx(promised)


def test_rows_go_on_from_each_other(people_run: tuple[Outcome, Told, Path]) -> None:
    rows = people_run[1].rows
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    for last, row in pairwise(rows):
        assert row["forget_loss"] == pytest.approx(last["forget_loss_after"], rel=1e-5)
        assert sum(row[branch] for branch in ("direct", "rectified", "colinear", "infeasible")) == pytest.approx(1)


def test_phases_are_reported_in_order(digits_run: tuple[Outcome, Told, Path]) -> None:
    lines = digits_run[1].lines
    assert list(dict.fromkeys(line.phase for line in lines)) == ["assessing", "unlearning", "evaluating"]
    assert lines[1].hardness is not None
    first = next(line for line in lines if line.phase == "unlearning")
    assert (first.step, first.max_steps) == (0, 200)


def test_the_outcome_says_where_and_how_long(digits_run: tuple[Outcome, Told, Path]) -> None:
    outcome = digits_run[0]
    assert set(outcome.timings) == {"load_s", "assess_s", "unlearn_s", "evaluate_s"}
    assert outcome.worker["torch"] == torch.__version__
    assert outcome.forget_records > 20
    assert outcome.retain_records > 1000
    assert outcome.hardness is not None
    assert sum(outcome.hardness["branches"].values()) == pytest.approx(1)


def test_two_runs_on_a_cpu_are_bitwise_equal(
    digits: Built, digits_run: tuple[Outcome, Told, Path], tmp_path: Path
) -> None:
    start(digits, sets_of(digits, "writer-03"), tmp_path)
    first, second = (load_file(out / "model.safetensors") for out in (digits_run[2], tmp_path / "out"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_batchnorm_statistics_are_published_as_they_were(digits: Built, digits_run: tuple[Outcome, Told, Path]) -> None:
    before, after = load_file(digits.model / "model.safetensors"), load_file(digits_run[2] / "model.safetensors")
    statistics = [name for name in before if "running" in name or "num_batches" in name]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_assessing_changes_nothing(digits: Built, tmp_path: Path) -> None:
    job = replace(job_of(digits), mode="assess")
    outcome, told = start(digits, sets_of(digits, "writer-03"), tmp_path, job=job)
    assert outcome.stop_reason is None
    assert outcome.hardness is not None
    assert outcome.hardness["verdict"] in {"easy", "hard", "irreconcilable"}
    assert {
        "kappa",
        "kappa_1",
        "kappa_2",
        "cosine",
        "stopping_margin",
        "retain_cost_per_step",
    } <= outcome.hardness.keys()
    assert 0 < outcome.hardness["free_capacity"] <= outcome.hardness["forget_capacity"]
    assert outcome.hardness["cosine_low"] <= outcome.hardness["cosine"] <= outcome.hardness["cosine_high"]
    assert outcome.hardness["layers"]
    forecast = outcome.hardness["forecast"]
    assert 0 < forecast["steps"]["low"] <= forecast["steps"]["expected"] <= forecast["steps"]["high"] <= 200
    assert 0 < forecast["seconds"]["low"] <= forecast["seconds"]["expected"] < forecast["seconds"]["high"]
    assert set(outcome.metrics or {}) == {"before"}
    assert not told.rows
    assert not (tmp_path / "out").exists()


def test_without_a_holdout_there_is_no_target(digits: Built, tmp_path: Path) -> None:
    job = job_of(digits, max_steps=3)
    outcome, _ = start(digits, sets_of(digits, "writer-03", holdout=False), tmp_path, job=job)
    assert outcome.stop_reason == "max_steps"
    assert outcome.metrics is not None
    assert outcome.metrics["after"]["membership_auc"] is None
    assert {gate["name"]: gate["status"] for gate in outcome.gates}["forget_loss_ratio"] == "undecided"
    assert outcome.verdict != "passed"
    assert "There is no matched holdout to compare the forget set with." in outcome.verdict_reasons


def test_a_cancelled_run_writes_nothing(digits: Built, tmp_path: Path) -> None:
    told: list[bool] = []

    def cancelled() -> bool:
        told.append(True)
        return len(told) > 60

    outcome, _ = start(digits, sets_of(digits, "writer-03"), tmp_path, cancelled=cancelled)
    assert outcome.stop_reason == "cancelled"
    assert not (tmp_path / "out").exists()


def test_a_budget_that_cannot_be_kept_rolls_back(
    digits: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Bench.score

    def score(bench: Bench, examples: Any) -> SetScores:
        scores = honest(bench, examples)
        if examples is bench.retain:  # every look shows it ruined, so only the first weights are safe
            return SetScores(scores.losses, np.zeros_like(scores.correct), scores.counted)
        return scores

    monkeypatch.setattr(Bench, "score", score)
    outcome, _ = start(digits, sets_of(digits, "writer-03"), tmp_path, job=job_of(digits, max_steps=20))
    assert outcome.stop_reason == "retain_budget_exhausted"
    assert outcome.metrics is not None
    assert outcome.metrics["after"]["rolled_back"] is True
    assert outcome.metrics["after"]["displacement"] == 0.0
    assert {gate["name"]: gate["status"] for gate in outcome.gates}["displacement"] == "failed"
    assert outcome.verdict == "failed"


def failure_of(outcome: Outcome) -> tuple[str, bool]:
    assert outcome.failure is not None
    return outcome.failure.code, outcome.failure.retryable


def test_an_empty_forget_set_fails_with_words(digits: Built, tmp_path: Path) -> None:
    outcome, _ = start(digits, sets_of(digits, "nobody"), tmp_path)
    assert failure_of(outcome) == ("empty_forget_set", False)


def rewritten(built: Built, path: Path, column: str, row: int, value: object) -> Path:
    rows = pq.read_table(built.records)
    values = rows[column].to_pylist()
    values[row] = value
    pq.write_table(rows.set_column(rows.column_names.index(column), column, pa.array(values)), path)
    return path


@pytest.mark.parametrize(("column", "value"), [("image", b"short"), ("label", 10)])
def test_a_bad_record_is_named_by_its_place(digits: Built, tmp_path: Path, column: str, value: object) -> None:
    sets = sets_of(digits, "writer-03")
    row = sets.index("forget")
    outcome, _ = start(digits, sets, tmp_path, files=[rewritten(digits, tmp_path / "bad.parquet", column, row, value)])
    assert failure_of(outcome) == ("bad_record", False)
    assert outcome.failure is not None
    assert f"row {row} of bad.parquet" in outcome.failure.message


def test_json_lines_are_read_as_well(persons: Built, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "records.jsonl", pq.read_table(persons.records).to_pylist())
    job = job_of(persons, max_steps=1)
    job = replace(job, dataset=replace(job.dataset, format="jsonl"))
    outcome, _ = start(persons, sets_of(persons, "person-002"), tmp_path, job=job, files=[path])
    assert outcome.stop_reason == "max_steps"


@pytest.mark.parametrize(
    "parameters",
    [{"method": "magic"}, {"quota": "magic"}, {"block": "magic"}, {"quota_ratio": 2.0}, {"max_grad_norm": -1}],
)
def test_parameters_that_do_not_work_are_explained(digits: Built, tmp_path: Path, parameters: dict[str, Any]) -> None:
    outcome, _ = start(digits, sets_of(digits, "writer-03"), tmp_path, job=job_of(digits, **parameters))
    assert failure_of(outcome) == ("bad_parameters", False)


def test_a_device_that_is_not_there_may_be_elsewhere(digits: Built, tmp_path: Path) -> None:
    job = replace(job_of(digits), device="cuda:99")
    assert failure_of(start(digits, sets_of(digits, "writer-03"), tmp_path, job=job)[0]) == ("no_device", True)


def test_without_memory_it_is_tried_with_half_as_many_records_then_given_up(
    digits: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def exhausted(bench: Bench, *_: Any) -> SetScores:
        sizes.append(bench.micro_batch_size)
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(Bench, "score", exhausted)
    outcome, _ = start(digits, sets_of(digits, "writer-03"), tmp_path)
    assert sizes == [64, 32]
    assert failure_of(outcome) == ("out_of_memory", True)


def test_an_unknown_error_is_not_hidden(digits: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Family:
        raise RuntimeError("a bug")

    monkeypatch.setattr(preparing, "_family", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        start(digits, sets_of(digits, "writer-03"), tmp_path)


def test_a_half_precision_model_is_measured_as_it_is_saved(persons: Built, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(persons.model, dtype=torch.bfloat16)
    half = replace(persons, model=tmp_path / "half")
    shutil.copytree(persons.model, half.model)
    model.save_pretrained(half.model)
    outcome, _ = start(half, sets_of(persons, "person-002"), tmp_path / "run")
    assert outcome.metrics is not None
    assert outcome.stop_reason == "target_reached"
    after = outcome.metrics["after"]
    assert after["displacement"] == pytest.approx(after["displacement_before_rounding"], rel=0.2)
    assert {tensor.dtype for tensor in load_file(tmp_path / "run" / "out" / "model.safetensors").values()} == {
        torch.bfloat16
    }
    again = start(
        replace(half, model=tmp_path / "run" / "out"),
        sets_of(persons, "person-002"),
        tmp_path / "again",
        job=replace(job_of(persons), mode="assess"),
    )[0]
    assert again.metrics is not None
    assert again.metrics["before"]["forget"]["loss"] == pytest.approx(after["forget"]["loss"], rel=1e-4)
