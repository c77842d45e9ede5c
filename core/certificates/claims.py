"""From a run that has ended to the claims about it. Pure: rows in, plain JSON out."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import fsum
from typing import Any, Final

from core.certificates import merkle
from core.certificates.canonical import sha256
from core.certificates.shape import FORMAT, Kind
from core.certificates.words import NOT_PROVEN, STATEMENTS
from core.datasets.tables import Dataset
from core.platform.clock import rfc3339
from core.registry.tables import Model, ModelVersion
from core.runs.tables import Run
from core.unlearning.job import StoredFile

MOST_DIGESTS: Final = 500
"""More records than this appear by their root alone, so that certificates stay small."""
GOOD: Final = frozenset({"passed", "passed_with_warnings"})
CONTROLS: Final = ("no_op", "placebo")
"""What the same panel says of unchanged weights and of records that were never to be forgotten."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A version and its files."""

    version: ModelVersion
    files: Sequence[StoredFile]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided about a run."""

    request_id: str
    approved: bool
    actor: str
    comment: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is known about a run that has ended. ``requests``: ids and when they came in."""

    run: Run
    model: Model
    dataset: Dataset
    fingerprint: str
    """Of the data set's files as the run read them."""
    base: Weights
    published: Weights | None
    requests: Sequence[tuple[str, datetime]]
    record_ids: Sequence[str]
    steps: Sequence[Mapping[str, Any]]
    decisions: Sequence[Decision]


def kind_of(*, published: bool, verdict: str | None, metrics: Mapping[str, Any] | None) -> Kind:
    """A certificate only for what was published after a good verdict beside controls that did not pass."""
    controls = (metrics or {}).get("controls") or {}
    words = [(controls.get(name) or {}).get("verdict") for name in CONTROLS]
    told_apart = all(word is not None and word not in GOOD for word in words)
    return "certificate" if published and verdict in GOOD and told_apart else "report"


def build(facts: Facts, *, id: str, issuer: str, salt: bytes, at: datetime) -> dict[str, Any]:
    """The claims, in the shape of ``shape.Claims``. ``salt``: 32 secret bytes of this certificate's own."""
    run, parameters = facts.run, dict(facts.run.parameters)
    kind = kind_of(published=facts.published is not None, verdict=run.verdict, metrics=run.metrics)
    return {
        "format": FORMAT,
        "kind": kind,
        "iss": issuer,
        "sub": run.id,
        "jti": id,
        "iat": int(at.timestamp()),
        "statement": STATEMENTS[kind],
        "not_proven": list(NOT_PROVEN),
        "workspace_id": run.workspace_id,
        "model": {"name": facts.model.name, "task": facts.model.task},
        "base": _version(facts.base),
        "published": _version(facts.published) if facts.published else None,
        "dataset": _dataset(facts.dataset, facts.fingerprint, run),
        "deletion_requests": [{"id": key, "received_at": rfc3339(came)} for key, came in facts.requests],
        "records": _records(facts, salt),
        "run": _run(run),
        "method": parameters["method"],
        "seed": parameters["seed"],
        "parameters": parameters,
        "policy": {
            "name": run.policy_name,
            "settings": {name: value for name, value in run.policy.items() if name != "parameters"},
        },
        "hardness": run.hardness,
        "ledger": _ledger(facts.steps),
        "metrics": _without_ids(run.metrics, salt),
        "gates": run.gates if run.verdict else [],
        "verdict": run.verdict,
        "verdict_reasons": list(run.verdict_reasons or ()),
        "approvals": [_approval(decision) for decision in facts.decisions],
        "error": {"code": run.error["code"], "message": run.error["message"]} if run.error else None,
        "code": (run.worker or {}).get("code"),
        "worker": {name: value for name, value in run.worker.items() if name != "code"} if run.worker else None,
        "timings": dict(run.timings),
    }


def combined(fingerprint: str, *sets: str) -> str:
    """One digest of a data set's fingerprint and the digests of the sets that were trained on."""
    return sha256([fingerprint, *sets])


def ledger_digest(steps: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of the ledger's rows in order, in canonical form."""
    return sha256([dict(step) for step in steps])


def _version(weights: Weights) -> dict[str, Any]:
    files = [{"path": file.path, "size": file.size_bytes, "sha256": file.sha256} for file in weights.files]
    return {"version": weights.version.version, "digest": weights.version.digest, "files": files}


def _dataset(dataset: Dataset, fingerprint: str, run: Run) -> dict[str, Any]:
    selected = run.selection
    named = {"name": dataset.name, "fingerprint": fingerprint}
    if selected is None:
        return {**named, "selection": None, "before": None, "after": None}
    forget, retain, holdout = selected["forget"], selected["retain"], selected["holdout"]
    return {
        **named,
        "selection": {
            "at": rfc3339(datetime.fromisoformat(selected["at"])),
            "forget": forget,
            "retain": retain,
            "holdout": holdout,
        },
        "before": combined(fingerprint, forget, retain),
        "after": combined(fingerprint, retain),
    }


def _records(facts: Facts, salt: bytes) -> dict[str, Any]:
    leaves = merkle.digests(salt, facts.record_ids)
    return {
        "count": len(leaves),
        "retained": facts.run.retain_records,
        "root": merkle.root(leaves).hex() if leaves else None,
        "digests": [leaf.hex() for leaf in leaves] if len(leaves) <= MOST_DIGESTS else None,
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "status": run.status,
        "stop_reason": run.stop_reason,
        "unmet_targets": [dict(target) for target in run.unmet_targets or ()],
        "attempt": run.attempt,
        "created_at": rfc3339(run.created_at),
        "started_at": rfc3339(run.started_at) if run.started_at else None,
        "finished_at": rfc3339(run.finished_at or run.created_at),
    }


def _ledger(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    accepted = [step for step in steps if step.get("accepted")]
    totals = {
        name: fsum(float(step.get(name) or 0.0) for step in accepted)
        for name in ("promised_forget_gain", "realised_forget_gain")
    }
    return {"steps": len(steps), "sha256": ledger_digest(steps), **totals}


def _approval(decision: Decision) -> dict[str, Any]:
    return {
        "request_id": decision.request_id,
        "decision": "approved" if decision.approved else "rejected",
        "actor": decision.actor,
        "comment": decision.comment,
        "at": rfc3339(decision.at),
    }


def _without_ids(value: Any, salt: bytes) -> Any:
    """``value`` with the digest of each record in the place of its id, wherever a table of records names one."""
    if isinstance(value, Mapping):
        return {
            ("digest" if name == "record_id" else name): (
                merkle.digest(merkle.nonce(salt, one), one).hex() if name == "record_id" else _without_ids(one, salt)
            )
            for name, one in value.items()
        }
    return [_without_ids(one, salt) for one in value] if isinstance(value, list) else value
