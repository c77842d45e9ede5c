"""Runs that have ended, on a database of their own."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from core.certificates import service as certificates
from core.certificates.canonical import sha256
from core.certificates.tables import Certificate
from core.platform.database import transaction
from core.plots import Evidence
from core.runs import finishing, service
from core.runs.preparing import keep, prepare
from core.unlearning.job import Failure, Outcome, StoredFile
from tests.builders.estate import AT, KEYRING, Estate, estate
from tests.builders.evidence import ISSUER, STEPS, judged, metrics


@dataclass
class Ended:
    """An estate on a database, and how to bring runs in it to an end."""

    engine: Engine
    built: Estate
    folder: Path
    requests: list[str] = field(default_factory=list)

    def run(
        self, *record_ids: str, passed: bool = True, failure: Failure | None = None, shows: Evidence | None = None
    ) -> str:
        """Request, plan, prepare and finish; the run's id. ``shows``: what there is to draw, besides what is judged."""
        with transaction(self.engine) as tx:
            request = self.built.submit(tx, *record_ids)
            planned = service.plan_next(tx, at=AT)
            assert planned is not None
            lease = service.claim(tx, run_id=planned.run_id, owner="w", ttl_s=60, at=AT)
            assert lease is not None
        folder = self.folder / lease.row_id
        folder.mkdir()
        with transaction(self.engine) as tx:
            prepared = prepare(tx, lease=lease, folder=folder, uri=lambda key: key, device="cpu", threads=1)
            keep(tx, lease=lease, prepared=prepared, at=AT)
        uri = f"file:///objects/models/digits/v2/{lease.row_id}-1/"
        words = judged() if passed else {**judged(), "verdict": "inconclusive"}
        outcome = Outcome(
            stop_reason="target_reached",
            metrics=_shown(metrics(), shows),
            hardness={"verdict": "hard", **(shows.hardness if shows else {})},
            gates=tuple(words["gates"]),
            verdict=words["verdict"],
            verdict_reasons=tuple(words["verdict_reasons"]),
            staged=(StoredFile("model.safetensors", f"{uri}model.safetensors", 1, sha256(lease.row_id)),),
            worker={"device": "cpu", "torch": "2", "threads": 1, "code": {"version": "0.1.0", "commit": None}},
            timings={"load_s": 1.0},
        )
        with transaction(self.engine) as tx:
            given = Outcome(failure=failure) if failure else outcome
            service.Runs(tx).add_steps(lease.row_id, 1, shows.rows if shows else STEPS)
            finishing.finish(tx, lease=lease, outcome=given, publish_uri=uri, max_attempts=1, at=AT)
        self.requests.append(request.request.id)
        return lease.row_id

    def decide(self, *, approve: bool, comment: str) -> None:
        """A person decides about the last request."""
        with transaction(self.engine) as tx:
            finishing.decide(
                tx,
                workspace_id=self.built.workspace_id,
                request_id=self.requests[-1],
                approve=approve,
                comment=comment,
                actor="key_dpo",
                at=AT,
            )

    def issue(self, run_id: str) -> Certificate | None:
        """Issue for one run."""
        with transaction(self.engine) as tx:
            return certificates.issue(tx, run_id=run_id, issuer=ISSUER, keyring=KEYRING, at=AT)


def _shown(judged: dict[str, Any], shows: Evidence | None) -> dict[str, Any]:
    """What is judged keeps its numbers."""
    more = shows.metrics if shows else {}
    return {**more, **judged, **{when: {**more.get(when, {}), **judged[when]} for when in ("before", "after")}}


@pytest.fixture
def ended(database: Engine, tmp_path: Path) -> Ended:
    with transaction(database) as tx:
        return Ended(database, estate(tx), tmp_path)
