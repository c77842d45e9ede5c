"""What a verdict does to a run, what is kept of it, and that no run that changed nothing is ever published."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core.deletions import service as deletions
from core.evaluation.estimates import Estimate
from core.evaluation.gates import judge
from core.evaluation.limits import Limits
from core.evaluation.verdict import verdict
from core.platform.leases import Lease
from core.platform.outbox import OutboxRow
from core.policies import service as policies
from core.registry.errors import NothingChanged
from core.registry.repository import Versions
from core.registry.tables import ModelAlias
from core.runs import finishing, service
from core.runs.drifting import drift_of
from core.runs.preparing import prepare
from core.runs.repository import Runs
from core.runs.tables import Run, RunScore
from core.unlearning.job import SELECTION_FILE, Outcome, StoredFile, read_job
from tests.builders.estate import AT, Estate, estate, staged

pytestmark = pytest.mark.integration

exact = Estimate.exact
FORGOTTEN = {
    "displacement": exact(0.4),
    "gap_closed": exact(0.9),
    "specificity": exact(0.0),
    "forget_loss_ratio": Estimate(1.0, 0.7, 1.3),
    "retain_accuracy_drop": exact(0.002),
}
UNCHANGED = {
    "displacement": exact(0.0),
    "gap_closed": exact(0.0),
    "specificity": exact(1.0),
    "forget_loss_ratio": exact(0.01),
    "retain_accuracy_drop": exact(0.0),
}
SHAKEN = UNCHANGED | {"displacement": exact(1e-6), "specificity": exact(0.5)}
RESCALED = UNCHANGED | {"displacement": exact(1e-5), "gap_closed": exact(1e-6), "specificity": exact(0.3)}


def started(tx: Session, *record_ids: str, built: Estate, **fields: Any) -> tuple[str, Lease]:
    """A request and the run that works on it."""
    request = built.submit(tx, *record_ids, **fields)
    assert service.plan_next(tx, at=AT)
    lease = service.claim(tx, run_id=None, owner="w", ttl_s=60, at=AT)
    assert lease is not None
    return request.request.id, lease


def folder(lease: Lease) -> str:
    return f"file:///objects/models/digits/v2/{lease.row_id}-{lease.attempt}/"


def judged(lease: Lease, measured: dict[str, Estimate], **fields: Any) -> Outcome:
    """The outcome of a child that measured this."""
    gates = judge(measured, UNCHANGED, Limits())
    found = verdict(gates, matched=True)
    return Outcome(
        **{
            "stop_reason": "target_reached",
            "gates": tuple(gate.as_dict() for gate in gates),
            "verdict": found.verdict,
            "verdict_reasons": found.reasons,
            "staged": staged(folder(lease)),
            **fields,
        }
    )


def finish(tx: Session, lease: Lease, outcome: Outcome) -> Run:
    finishing.finish(tx, lease=lease, outcome=outcome, publish_uri=folder(lease), max_attempts=3, at=AT)
    tx.flush()
    tx.expire_all()
    return Runs(tx).get(lease.row_id)


def decide(tx: Session, built: Estate, request_id: str, *, approve: bool) -> None:
    finishing.decide(
        tx, workspace_id=built.workspace_id, request_id=request_id, approve=approve,
        comment="seen by two", actor="key_p", at=AT,
    )  # fmt: skip


def latest(tx: Session, built: Estate) -> int | None:
    alias = select(ModelAlias.version).where(
        ModelAlias.model_id == built.models["digits"], ModelAlias.alias == "latest"
    )
    return tx.scalar(alias)


def base_files(tx: Session, built: Estate) -> tuple[StoredFile, ...]:
    versions = Versions(tx)
    return versions.files(versions.resolve(built.models["digits"], "1").id)


# A run that changed nothing


@pytest.mark.parametrize("measured", [UNCHANGED, SHAKEN, RESCALED])
@pytest.mark.parametrize("stop_reason", ["target_reached", "max_steps", "infeasible"])
def test_an_engine_that_does_nothing_publishes_nothing(
    tx: Session, measured: dict[str, Estimate], stop_reason: str
) -> None:
    built = estate(tx)
    _, lease = started(tx, "r-0", built=built)
    run = finish(tx, lease, judged(lease, measured, stop_reason=stop_reason))
    assert (run.verdict, run.published_version, latest(tx, built)) == ("failed", None, 1)
    assert run.status in ("failed", "needs_review")


def test_unchanged_weights_end_the_run_and_say_so(tx: Session) -> None:
    built = estate(tx)
    request_id, lease = started(tx, "r-0", built=built)
    run = finish(tx, lease, judged(lease, UNCHANGED))
    assert run.error is not None
    assert (run.status, run.error["code"]) == ("failed", "nothing_changed")
    view = deletions.get(tx, workspace_id=built.workspace_id, request_id=request_id)
    assert (view.request.status, (view.error or {})["code"]) == ("failed", "nothing_changed")


def test_not_even_a_person_can_publish_unchanged_weights(tx: Session) -> None:
    built = estate(tx)
    request_id, lease = started(tx, "r-0", built=built)
    assert finish(tx, lease, judged(lease, UNCHANGED, stop_reason="infeasible")).status == "needs_review"
    with pytest.raises(NothingChanged):
        decide(tx, built, request_id, approve=True)
    decide(tx, built, request_id, approve=False)
    assert latest(tx, built) == 1


def test_a_child_that_claims_to_have_moved_weights_is_not_believed(tx: Session) -> None:
    """The planted engine hands its base back under a verdict that says passed; the bytes tell."""
    built = estate(tx)
    _, lease = started(tx, "r-0", built=built)
    run = finish(tx, lease, judged(lease, FORGOTTEN, staged=base_files(tx, built)))
    assert run.error is not None
    assert (run.status, run.error["code"], latest(tx, built)) == ("failed", "nothing_changed", 1)


def test_a_person_cannot_publish_the_bytes_of_the_base_either(tx: Session) -> None:
    built = estate(tx)
    request_id, lease = started(tx, "r-0", built=built)
    finish(tx, lease, judged(lease, FORGOTTEN, staged=base_files(tx, built), stop_reason="infeasible"))
    with pytest.raises(NothingChanged):
        decide(tx, built, request_id, approve=True)


# Verdicts, decisions and what is kept of them


def test_a_small_good_run_publishes_by_itself_with_warnings(tx: Session) -> None:
    built = estate(tx)
    _, lease = started(tx, "r-0", built=built)
    run = finish(tx, lease, judged(lease, FORGOTTEN))
    assert (run.status, run.verdict, latest(tx, built)) == ("succeeded", "passed_with_warnings", 2)
    assert run.verdict_reasons == [
        "forget_loss_ratio is 1 (0.7 to 1.3): too few records to tell whether it is 0.8 to 1.2."
    ]
    payload = tx.scalars(select(OutboxRow.payload).where(OutboxRow.name == "run.succeeded")).one()
    assert "passed_with_warnings" in json.dumps(payload)


@pytest.mark.parametrize("approve", [True, False])
def test_the_timeline_keeps_who_decided_what_about_which_verdict(tx: Session, approve: bool) -> None:
    built = estate(tx)
    request_id, lease = started(tx, "r-0", built=built)
    assert finish(tx, lease, judged(lease, SHAKEN)).status == "needs_review"
    decide(tx, built, request_id, approve=approve)
    (event,) = [one for one in Runs(tx).events(lease.row_id, after=0) if one.type in ("approved", "rejected")]
    assert event.type == ("approved" if approve else "rejected")
    assert event.at == AT
    said = {name: event.detail[name] for name in ("actor", "verdict", "comment")}
    assert said == {"actor": "key_p", "verdict": "failed", "comment": "seen by two"}
    assert latest(tx, built) == (2 if approve else 1)


def test_the_policy_of_the_run_rules_over_its_verdict(tx: Session) -> None:
    built = estate(tx)
    body = {"publish_on": ["passed"], "review_on": ["inconclusive"], "fail_on": ["failed", "passed_with_warnings"]}
    policies.put(tx, workspace_id=built.workspace_id, name="strict", body=body, actor="k", at=AT)
    _, lease = started(tx, "r-0", built=built, policy="strict")
    run = finish(tx, lease, judged(lease, FORGOTTEN))
    assert run.error is not None
    assert (run.status, run.error["code"]) == ("failed", "verdict_passed_with_warnings")


def test_a_run_planned_before_there_were_verdicts_is_ruled_by_the_default(tx: Session) -> None:
    built = estate(tx)
    _, lease = started(tx, "r-0", built=built)
    tx.execute(text("update runs set policy = policy - 'publish_on' - 'review_on' - 'fail_on' - 'limits'"))
    tx.expire_all()
    assert finish(tx, lease, judged(lease, FORGOTTEN)).status == "succeeded"


def scores(tx: Session, run_id: str) -> list[str]:
    rows = select(RunScore.record_id).where(RunScore.run_id == run_id).order_by(RunScore.record_id)
    return list(tx.scalars(rows))


def test_an_attempt_replaces_the_scores_of_the_one_before(tx: Session) -> None:
    built = estate(tx)
    _, lease = started(tx, "r-0", "r-1", built=built)
    built.publish(tx, "digits", base=1)  # the run's base is no longer the latest, so it is queued again
    first = judged(lease, FORGOTTEN, records=({"record_id": "r-0", "loss_after": 1.0},))
    run = finish(tx, lease, first)
    assert (run.status, run.verdict, run.verdict_reasons, scores(tx, run.id)) == ("queued", None, [], [])
    again = service.claim(tx, run_id=None, owner="w", ttl_s=60, at=AT)
    assert again is not None
    finish(tx, again, replace(first, staged=staged(folder(again)), records=({"record_id": "r-1"},)))
    assert scores(tx, run.id) == ["r-1"]


# What is kept of earlier deletions


def prepared(tx: Session, lease: Lease, where: Path) -> dict[str, str]:
    prepare(tx, lease=lease, folder=where, uri=lambda key: f"s3://b/{key}", device="cpu", threads=None)
    rows = pq.read_table(where / SELECTION_FILE).to_pylist()
    return {row["record_id"]: row["run_id"] for row in rows if row["set"] == "earlier"}


def completed(tx: Session, built: Estate, *record_ids: str, **fields: Any) -> str:
    """The run that forgot the records, ended now."""
    _, lease = started(tx, *record_ids, built=built, **fields)
    assert finish(tx, lease, judged(lease, FORGOTTEN, records=({"record_id": record_ids[0]},))).status == "succeeded"
    tx.execute(text("update runs set finished_at = now() where id = :id"), {"id": lease.row_id})
    return lease.row_id


def test_a_later_run_looks_again_at_what_earlier_runs_forgot(tx: Session, tmp_path: Path) -> None:
    built = estate(tx)
    first, second = completed(tx, built, "r-0", "t-0"), completed(tx, built, "r-1", "r-2")
    _, lease = started(tx, "r-3", built=built)
    assert prepared(tx, lease, tmp_path) == {"r-0": first, "r-1": second, "r-2": second}


@pytest.mark.parametrize(("then", "now"), [(0, 30), (30, 0)])
def test_no_record_is_read_again_that_either_policy_keeps_from_it(
    tx: Session, tmp_path: Path, then: int, now: int
) -> None:
    built = estate(tx)
    for name, days in (("then", then), ("now", now)):
        body = {"recheck_days": days}
        policies.put(tx, workspace_id=built.workspace_id, name=name, body=body, actor="k", at=AT)
    completed(tx, built, "r-0", policy="then")
    _, lease = started(tx, "r-3", built=built, policy="now")
    assert prepared(tx, lease, tmp_path) == {}


def test_when_the_time_is_over_records_and_their_scores_are_left_alone(tx: Session, tmp_path: Path) -> None:
    built = estate(tx)
    old, young = completed(tx, built, "r-0"), completed(tx, built, "r-1")
    assert Runs(tx).drop_old_scores() == 0
    tx.execute(text("update runs set finished_at = now() - interval '31 days' where id = :id"), {"id": old})
    assert Runs(tx).drop_old_scores() == 1
    assert (scores(tx, old), scores(tx, young)) == ([], ["r-1"])
    _, lease = started(tx, "r-3", built=built)
    assert prepared(tx, lease, tmp_path) == {"r-1": young}


def test_a_rejected_runs_records_are_nobodys_earlier_deletion(tx: Session, tmp_path: Path) -> None:
    built = estate(tx)
    request_id, lease = started(tx, "r-0", built=built)
    finish(tx, lease, judged(lease, SHAKEN))
    decide(tx, built, request_id, approve=False)
    _, later = started(tx, "r-3", built=built)
    assert prepared(tx, later, tmp_path) == {}


def test_the_sample_is_bounded_and_stays_the_same(tx: Session) -> None:
    built = estate(tx)
    completed(tx, built, "r-0", "r-1", "r-2")
    runs, model = Runs(tx), built.models["digits"]
    two = runs.forgotten_earlier(model, days=30, limit=2)
    assert len(two) == 2
    assert runs.forgotten_earlier(model, days=30, limit=2) == two


def test_the_jobs_limits_are_the_policys(tx: Session, tmp_path: Path) -> None:
    built = estate(tx)
    limits = {"gap_closed": {"at_least": 0.7}}
    policies.put(tx, workspace_id=built.workspace_id, name="strict", body={"limits": limits}, actor="k", at=AT)
    _, lease = started(tx, "r-0", built=built, policy="strict")
    prepared(tx, lease, tmp_path)
    assert read_job(tmp_path / "job.json").limits == limits


# When to train anew


def metrics(before: float, after: float) -> dict[str, Any]:
    return {when: {"retain": {"accuracy": of}, "holdout": None} for when, of in (("before", before), ("after", after))}


def test_drift_is_what_published_runs_add_up_to_since_training(tx: Session) -> None:
    built = estate(tx)
    model = built.models["digits"]
    assert drift_of(tx, model).runs == 0
    for record, before, after in (("r-0", 1.0, 0.98), ("r-1", 0.97, 0.95)):
        _, lease = started(tx, record, built=built)
        outcome = judged(lease, FORGOTTEN, metrics=metrics(before, after), forget_records=1, retain_records=98)
        assert finish(tx, lease, outcome).status == "succeeded"
    found = drift_of(tx, model)
    assert (found.runs, found.erased_records, found.erased_share) == (2, 2, 0.02)
    assert found.retain_accuracy_drop == pytest.approx(0.04)
    assert (found.holdout_accuracy_drop, found.advice) == (0.0, "retrain")
    built.publish(tx, "digits", base=3)  # trained anew
    assert drift_of(tx, model).runs == 0
