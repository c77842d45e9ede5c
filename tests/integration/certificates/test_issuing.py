"""Every run that has ended gets one certificate or one report, whatever is killed and however many issue."""

import json
import threading
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from core.certificates import keys, service, signing, verifying
from core.certificates.tables import Certificate, SigningKey
from core.deletions import service as deletions
from core.platform.database import transaction
from core.platform.secrets import Keyring
from core.registry.tables import ModelVersion
from core.runs.tables import Run
from core.unlearning.job import Failure
from tests.builders.estate import AT, KEYRING
from tests.builders.evidence import ISSUER
from tests.integration.certificates.conftest import Ended
from worker.loops import certifier

pytestmark = pytest.mark.integration


def turn(ended: Ended) -> bool:
    return certifier.turn(ended.engine, KEYRING, ISSUER, lambda: AT)


def only(ended: Ended) -> tuple[Certificate, verifying.Claims]:
    with transaction(ended.engine) as tx:
        found = tx.scalars(select(Certificate)).one()
        return found, verifying.verify(found.jws, keys.jwks(tx)).claims


def events(ended: Ended, kind: str) -> list[dict[str, Any]]:
    with transaction(ended.engine) as tx:
        rows = tx.execute(text("select payload from outbox where name = :kind order by id"), {"kind": kind})
        return [row.payload["data"] for row in rows]


def test_a_good_run_is_certified_and_everybody_is_told(ended: Ended) -> None:
    run_id = ended.run("r-0", "r-2")
    assert turn(ended)
    assert not turn(ended)
    certificate, claims = only(ended)
    assert (certificate.kind, claims.verdict, claims.sub) == ("certificate", "passed_with_warnings", run_id)
    assert (claims.records.count, claims.records.retained) == (2, 4)
    assert (claims.base.version, claims.published and claims.published.version) == (1, 2)
    assert claims.dataset.selection is not None
    assert claims.ledger.steps == 3
    assert [one.id for one in claims.deletion_requests] == ended.requests
    with transaction(ended.engine) as tx:
        version = tx.scalars(select(ModelVersion).where(ModelVersion.run_id == run_id)).one()
        assert version.certificate_id == certificate.id
        view = deletions.get(tx, workspace_id=ended.built.workspace_id, request_id=ended.requests[0])
        assert view.certificate_ids == (certificate.id,)
    (told,) = events(ended, "certificate.issued")
    assert (told["id"], told["run_id"], told["deletion_request_ids"]) == (certificate.id, run_id, ended.requests)
    assert events(ended, "report.issued") == []


def test_a_failed_run_is_reported_and_no_version_names_the_report(ended: Ended) -> None:
    ended.run("r-0", failure=Failure("bad_record", "Row 3 cannot be used.", retryable=False))
    turn(ended)
    certificate, claims = only(ended)
    assert (certificate.kind, claims.verdict, claims.published) == ("report", None, None)
    assert claims.error is not None
    assert claims.error.message == "Row 3 cannot be used."
    assert [told["id"] for told in events(ended, "report.issued")] == [certificate.id]
    assert events(ended, "certificate.issued") == []
    with transaction(ended.engine) as tx:
        view = deletions.get(tx, workspace_id=ended.built.workspace_id, request_id=ended.requests[0])
        assert view.certificate_ids == ()


@pytest.mark.parametrize("approve", [True, False])
def test_what_a_person_decided_is_in_the_report_and_makes_no_certificate(ended: Ended, approve: bool) -> None:
    ended.run("r-0", passed=False)
    assert not turn(ended)  # it waits for a decision, so it has not ended
    ended.decide(approve=approve, comment="seen and judged")
    assert turn(ended)
    certificate, claims = only(ended)
    assert (certificate.kind, claims.verdict) == ("report", "inconclusive")
    assert (claims.published is not None) is approve
    (decision,) = claims.approvals
    assert (decision.decision, decision.actor, decision.comment) == (
        "approved" if approve else "rejected",
        "key_dpo",
        "seen and judged",
    )
    with transaction(ended.engine) as tx:
        assert tx.scalars(select(ModelVersion.certificate_id)).all() == [None] * (2 if approve else 1)


def test_issuers_at_once_make_one(ended: Ended) -> None:
    run_id = ended.run("r-0")
    barrier, made = threading.Barrier(4), list[object]()

    def issue() -> None:
        barrier.wait()
        made.append(ended.issue(run_id))

    threads = [threading.Thread(target=issue) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sum(one is not None for one in made) == 1
    assert len(made) == 4
    only(ended)
    with transaction(ended.engine) as tx:
        assert len(tx.scalars(select(SigningKey)).all()) == 1


def test_an_issuer_killed_before_its_commit_leaves_nothing_and_the_next_one_does_it(
    ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended.run("r-0")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(service.outbox, "put_event", killed)
        with pytest.raises(KeyboardInterrupt):
            turn(ended)
    with transaction(ended.engine) as tx:
        assert tx.scalars(select(Certificate)).all() == []
        assert tx.scalars(select(Run.certified_at)).all() == [None]
    assert turn(ended)
    only(ended)


def test_a_run_whose_figures_contradict_each_other_is_not_signed_and_holds_up_no_other(ended: Ended) -> None:
    bad, good = ended.run("r-0"), ended.run("r-1")
    with transaction(ended.engine) as tx:
        tx.execute(text("update runs set verdict = 'passed' where id = :id"), {"id": bad})
    with pytest.raises(verifying.Rejected, match="/verdict"):
        turn(ended)
    certificate, _ = only(ended)
    assert certificate.run_id == good


def test_keys_rotate_and_what_the_old_one_signed_stays_verifiable(ended: Ended) -> None:
    first = ended.issue(ended.run("r-0"))
    with transaction(ended.engine) as tx:
        retired = keys.in_use(tx, KEYRING, at=AT).kid
        fresh = keys.rotate(tx, KEYRING, at=AT).kid
    second = ended.issue(ended.run("r-1"))
    assert first is not None
    assert second is not None
    assert (first.kid, second.kid) == (retired, fresh)
    with transaction(ended.engine) as tx:
        listed = keys.jwks(tx)
        for one in (first, second):
            assert verifying.verify(one.jws, listed).kid == one.kid
        rows = {key.kid: key for key in keys.listed(tx)}
    assert rows[retired].sealed_private == b""
    assert rows[retired].retired_at == AT
    assert all("d" not in key for key in listed["keys"])
    private = json.loads(KEYRING.open("signing-key", rows[fresh].sealed_private))
    assert private["d"].encode() not in rows[fresh].sealed_private


def test_another_service_secret_cannot_sign(ended: Ended) -> None:
    ended.issue(ended.run("r-0"))
    other = Keyring(b"another secret of at least 32 bytes!")
    with transaction(ended.engine) as tx, pytest.raises(ValueError, match="does not open"):
        keys.in_use(tx, other, at=AT)
    with transaction(ended.engine) as tx:
        keys.rotate(tx, other, at=AT)
        assert signing.public(keys.in_use(tx, other, at=AT))["alg"] == "EdDSA"


def test_the_wait_is_found_by_its_index(database: Engine) -> None:
    with transaction(database) as tx:
        tx.execute(text("set local enable_seqscan = off"))
        plan = tx.execute(
            text(
                "explain select id from runs where mode = 'unlearn' and status in ('succeeded', 'failed')"
                " and certified_at is null order by finished_at limit 100"
            )
        ).all()
    assert any("ix_runs_uncertified" in str(line) for line in plan)
