"""Certificates over HTTP: JSON, JOSE, a page; proofs; the public keys."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from sqlalchemy import Engine, update
from typer.testing import CliRunner

from cli.main import app
from core.access import service as access
from core.certificates import illustrating, service, verifying
from core.platform.database import transaction
from core.plots import PLOTS, Evidence
from core.runs.tables import RunStep
from core.unlearning.job import Failure
from tests.builders.drawable import EVIDENCE, ROWS
from tests.builders.estate import AT
from tests.builders.evidence import ISSUER
from tests.builders.web import Web, keyring, web
from tests.integration.certificates.conftest import Ended

pytestmark = pytest.mark.integration


@pytest.fixture
def caller(database: Engine, ended: Ended) -> Web:
    with transaction(database) as tx:
        key = access.create_key(
            tx,
            workspace_id=ended.built.workspace_id,
            name="t",
            scopes=["deletions:read"],
            mode="live",
            actor="t",
            at=AT,
        )
    return web(database).with_key(key.secret)


def issue(ended: Ended, run_id: str) -> str:
    with transaction(ended.engine) as tx:
        made = service.issue(tx, run_id=run_id, issuer=ISSUER, keyring=keyring(), at=AT)
        assert made is not None
        return made.id


def test_all_forms_say_the_same_and_verify_offline(ended: Ended, caller: Web, tmp_path: Path) -> None:
    path = f"/v1/certificates/{issue(ended, ended.run('r-0'))}"
    shown = caller.get(path)
    assert shown.headers["content-type"] == "application/json"
    jws = caller.get(path, headers={"Accept": "application/jose"})
    assert jws.headers["content-type"].startswith("application/jose")
    assert jws.text == shown.json()["jws"]
    keys = web(caller.engine).get("/.well-known/jwks.json")  # without a credential
    assert keys.headers["cache-control"] == "public, max-age=300"
    (tmp_path / "keys.json").write_text(keys.text)
    for name, content in (("certificate.json", shown.text), ("certificate.jws", jws.text)):
        (tmp_path / name).write_text(content)
        done = CliRunner().invoke(
            app, ["certificates", "verify", str(tmp_path / name), "--jwks", str(tmp_path / "keys.json"), "--json"]
        )
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["kind"] == "certificate"
    tampered = shown.text.replace('"verdict":"passed_with_warnings"', '"verdict":"passed"')
    assert tampered != shown.text
    (tmp_path / "tampered.json").write_text(tampered)
    refused = CliRunner().invoke(
        app, ["certificates", "verify", str(tmp_path / "tampered.json"), "--jwks", str(tmp_path / "keys.json")]
    )
    assert refused.exit_code == 1
    assert "/verdict: it is not what was signed" in refused.output


def test_the_page_can_be_printed_and_loads_nothing(ended: Ended, caller: Web) -> None:
    certificate_id = issue(ended, ended.run("r-0"))
    answer = caller.get(f"/v1/certificates/{certificate_id}", headers={"Accept": "text/html,application/xml;q=0.9"})
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    page = answer.text
    assert certificate_id in page
    assert "Certificate of unlearning" in page
    assert "What is not proven" in page
    assert "forget loss ratio" in page
    assert not re.search(r"<(script|link|img|iframe)|url\(|@import|(src|href)=", page)
    assert "<svg" not in page  # this run has nothing to draw


def test_the_page_shows_what_there_is_to_draw_and_still_loads_nothing(ended: Ended, caller: Web) -> None:
    run_id = ended.run("r-0", shows=EVIDENCE)
    path = f"/v1/certificates/{issue(ended, run_id)}"
    page = caller.get(path, headers={"Accept": "text/html"}).text
    drawn = ElementTree.fromstring(f"<page>{''.join(re.findall('<svg.*?</svg>', page, re.DOTALL))}</page>")  # noqa: S314
    titles = [str(title.text).partition(":")[0] for title in drawn.iterfind("{*}svg/{*}title")]
    assert titles == ["Losses", "Promise and outcome", "Hardness", "Hardness by layer", "Membership", "Attacks"]
    names = [str(element.get("id")) for element in drawn.iter() if element.get("id")]
    assert len(set(names)) == len(names)
    assert set(re.findall(r'(?:href="|url\()([^")]+)', page)) <= {f"#{name}" for name in names}
    assert not re.search(r"<(script|link|img|image|iframe|foreignObject)|@import|src=|javascript:", page)


def test_only_the_page_is_drawn_and_only_from_the_ledger_that_was_signed(
    ended: Ended, caller: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = ended.run("r-0", shows=EVIDENCE)
    path = f"/v1/certificates/{issue(ended, run_id)}"
    drawn: list[Evidence] = []
    monkeypatch.setattr(illustrating, "inline", lambda _, evidence: drawn.append(evidence) or "")
    for form in ("application/json", "application/jose"):
        assert caller.get(path, headers={"Accept": form}).status_code == 200
    assert drawn == []
    assert caller.get(path, headers={"Accept": "text/html"}).status_code == 200
    assert [len(evidence.rows) for evidence in drawn] == [len(ROWS)] * len(PLOTS)
    with transaction(ended.engine) as tx:
        changed = ROWS[0] | {"forget_loss_after": 9.0}
        tx.execute(update(RunStep).where(RunStep.run_id == run_id, RunStep.step == 1).values(row=changed))
    assert caller.get(path, headers={"Accept": "text/html"}).status_code == 200
    assert [len(evidence.rows) for evidence in drawn[len(PLOTS) :]] == [0] * len(PLOTS)


def test_other_forms_are_not_given(ended: Ended, caller: Web) -> None:
    answer = caller.get(f"/v1/certificates/{issue(ended, ended.run('r-0'))}", headers={"Accept": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


def test_a_record_can_be_proven_to_its_owner(ended: Ended, caller: Web, tmp_path: Path) -> None:
    certificate_id = issue(ended, ended.run("r-0", "r-2"))
    proof = caller.get(f"/v1/certificates/{certificate_id}/proof", params={"record_id": "r-2"}).json()
    certificate = caller.get(f"/v1/certificates/{certificate_id}").json()
    found = verifying.verify(json.dumps(certificate), caller.get("/.well-known/jwks.json").json())
    assert verifying.check_proof(found.claims, proof).record_id == "r-2"
    assert "r-0" not in json.dumps(proof)
    for name, content in (("c", certificate), ("k", caller.get("/.well-known/jwks.json").json()), ("p", proof)):
        (tmp_path / name).write_text(json.dumps(content))
    arguments = [str(tmp_path / "c"), "--jwks", str(tmp_path / "k"), "--proof", str(tmp_path / "p"), "--json"]
    done = CliRunner().invoke(app, ["certificates", "verify", *arguments])
    assert json.loads(done.stdout)["record_proven"] == "r-2"
    other = caller.get(f"/v1/certificates/{certificate_id}/proof", params={"record_id": "r-1"})
    assert (other.status_code, other.json()["code"]) == (404, "record_not_covered")


def test_the_list_is_narrowed_by_kind_run_model_and_request(ended: Ended, caller: Web) -> None:
    good = ended.run("r-0")
    bad = ended.run("r-1", failure=Failure("bad_record", "Row 3 cannot be used.", retryable=False))
    first, second = issue(ended, good), issue(ended, bad)

    def listed(**wanted: str) -> list[str]:
        return [row["id"] for row in caller.get("/v1/certificates", params=wanted).json()["data"]]

    assert listed() == [second, first]
    assert listed(kind="report") == [second]
    assert listed(run=good) == [first]
    assert listed(model="digits", request=ended.requests[1]) == [second]
    assert listed(model="other") == []


def test_another_workspace_sees_nothing(ended: Ended, caller: Web) -> None:
    certificate_id = issue(ended, ended.run("r-0"))
    stranger = web(caller.engine).customer("stranger")
    for path in ("", "/proof?record_id=r-0"):
        answer = stranger.get(f"/v1/certificates/{certificate_id}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "certificate_not_found")
    assert stranger.get("/v1/certificates").json()["data"] == []
    without = web(caller.engine).customer("acme", scopes=["runs:read"])
    assert without.get("/v1/certificates").status_code == 403
