"""Looking people up before asking for anything: counts and nothing else."""

from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from core.access.service import workspace_named
from core.datasets.identities import identity_digests
from core.datasets.tables import RecordIdentity
from core.platform.database import transaction
from tests.builders.estate import Estate
from tests.builders.web import Web, keyring, web

pytestmark = pytest.mark.integration

PATH = "/v1/subjects/lookup"


@pytest.fixture
def site(emptied: Engine) -> Web:
    site = web(emptied)
    site.customer("acme")
    with transaction(emptied) as tx:
        built = Estate(workspace_named(tx, "acme").id)
        built.add_dataset(tx, "digits")
        built.add_dataset(tx, "letters")
        (digest,) = identity_digests(keyring(), "email", "jane@doe.example")
        tx.add(RecordIdentity(dataset_id=built.datasets["letters"], type="email", digest=digest, record_id="t-0"))
        built.add_model(tx, "digits", "digits")
    return site


def _look(caller: Web, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = caller.post(PATH, body)
    return answer.status_code, answer.json()


def test_it_counts_what_is_there_once_each(site: Web) -> None:
    acme = site.customer("acme")
    assert _look(acme, subject_ids=["writer-0"]) == (200, {"record_count": 6, "already_erased": 0})
    assert _look(acme, subject_ids=["writer-0", "writer-0"], dataset="digits")[1]["record_count"] == 3
    assert _look(acme, subject_ids=["writer-0", "writer-1", "nobody"])[1]["record_count"] == 12
    jane = [{"type": "email", "value": " Jane@doe.example"}]
    assert _look(acme, identities=jane)[1]["record_count"] == 1
    assert _look(acme, identities=jane, subject_ids=["writer-1"])[1]["record_count"] == 7
    assert _look(acme, subject_ids=["nobody"]) == (200, {"record_count": 0, "already_erased": 0})
    with site.engine.begin() as connection:
        connection.execute(text("update records set state = 'erased' where record_id = 'r-0'"))
    assert _look(acme, subject_ids=["writer-0"]) == (200, {"record_count": 4, "already_erased": 2})


def test_it_needs_a_scope_of_its_own_and_sees_one_workspace(site: Web) -> None:
    assert _look(site.customer("acme", ["deletions:*"]), subject_ids=["writer-0"])[0] == 403
    asker = site.customer("acme", ["subjects:lookup"])
    assert _look(asker, subject_ids=["writer-0"])[1]["record_count"] == 6
    assert asker.get("/v1/deletion-requests").status_code == 403
    assert _look(site.customer("rival"), subject_ids=["writer-0"])[1]["record_count"] == 0
    assert _look(site.customer("rival"), subject_ids=["x"], dataset="digits")[0] == 404


def test_it_is_audited_without_the_person(site: Web) -> None:
    acme = site.customer("acme")
    _look(acme, subject_ids=["writer-0"], identities=[{"type": "email", "value": "jane@doe.example"}])
    lines = acme.get("/v1/audit-events?action=subject.looked_up")
    (line,) = lines.json()["data"]
    assert line["details"] == {"asked": 2, "record_count": 7}
    assert "writer-0" not in lines.text
    assert "jane" not in lines.text


def test_the_same_statements_run_whether_anybody_is_known_or_not(site: Web) -> None:
    acme = site.customer("acme")
    acme.get("/v1/whoami")

    def statements(subject: str) -> list[str]:
        seen: list[str] = []

        def note(_c: Any, _u: Any, statement: str, *_: Any) -> None:
            seen.append(statement)

        event.listen(site.engine, "before_cursor_execute", note)
        _look(acme, subject_ids=[subject])
        event.remove(site.engine, "before_cursor_execute", note)
        return seen

    assert statements("writer-0") == statements("nobody") != []


def test_asking_for_nobody_is_refused(site: Web) -> None:
    acme = site.customer("acme")
    assert _look(acme)[0] == 422
    assert _look(acme, subject_ids=["x"] * 10_001)[0] == 422
    assert _look(acme, record_ids=["r-0"])[0] == 422
