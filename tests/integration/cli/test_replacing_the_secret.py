"""The service's secret is replaced while it answers: nothing that was kept under the old one is lost."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner, Result

from api.app import create_app
from cli import doctor
from cli.configuration import to_environment, variables
from cli.main import app
from cli.secrets import SEALED
from core.certificates import keys
from core.certificates.tables import Certificate
from core.platform.database import transaction
from core.platform.ids import new_id
from core.platform.objects import open_store
from core.platform.secrets import Keyring
from core.platform.settings import Settings
from core.runs import service as runs
from core.runs.checkpoints import CheckpointRule
from core.runs.preparing import keep, prepare
from tests.builders.estate import AT, estate
from tests.builders.opendsr import BASE, WEBHOOKS, erasure
from tests.builders.web import Web, settings

pytestmark = pytest.mark.integration

OLD, NEW = "the-old-secret-of-more-than-32-characters", "the-new-secret-of-more-than-32-characters"
PEOPLE = {"a.jsonl": ("ada", "bob", "cyd"), "b.jsonl": ("dan", "eve")}


class Scene:
    """One database and folder, and the service on them under whichever secrets a test names."""

    def __init__(self, engine: Engine, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine, self.url, self.folder, self._monkeypatch = engine, url, folder, monkeypatch
        self.imports = folder / "imports" / "acme" / "people"
        self.imports.mkdir(parents=True)
        self._webs: dict[tuple[str, ...], Web] = {}
        self.caller = self.web(OLD).customer("acme")

    def settings(self, secret: str, *previous: str) -> Settings:
        return settings(
            secret=secret, previous_secrets=list(previous), data_dir=self.folder, database={"url": self.url},
            broker={"url": "redis://127.0.0.1:1/0"}, store={"url": (self.folder / "objects").as_uri()},
            webhooks=WEBHOOKS, sources={"roots": [f"{(self.folder / 'imports').as_uri()}/{{workspace}}/"]},
        )  # fmt: skip

    def web(self, *secrets: str) -> Web:
        """The service with these secrets, the current one first."""
        if secrets not in self._webs:
            made = self.settings(*secrets)
            self._webs[secrets] = Web(create_app(made, self.engine, open_store(made)), self.engine)
        return self._webs[secrets]

    def under(self, *secrets: str) -> Web:
        """The same caller, of a service with these secrets."""
        return Web(self.web(*secrets).app, self.engine, self.caller.headers)

    def register(self) -> None:
        """People with addresses, in two files."""
        for name, people in PEOPLE.items():
            rows = ({"id": f"r-{who}", "t": "text", "mail": f"{who}@example.org"} for who in people)
            (self.imports / name).write_text("\n".join(map(json.dumps, rows)))
        columns = {"record_id": "id", "text": "t", "identities": {"email": "mail"}}
        body = {"name": "people", "task": "causal-lm", "format": "jsonl", "columns": columns}
        answer = self.caller.post("/v1/datasets", {**body, "source_uri": f"{self.imports.as_uri()}/"})
        assert answer.status_code == 201, answer.text

    def rotate(self, *secrets: str) -> Result:
        for variable in variables():
            self._monkeypatch.delenv(variable.name, raising=False)
        for name, value in to_environment(self.settings(*secrets)).items():
            self._monkeypatch.setenv(name, value)
        return CliRunner().invoke(app, ["keys", "rotate-secret", "--json"])

    def finding(self, *secrets: str) -> doctor.Finding:
        return doctor._kept(self.settings(*secrets))  # pyright: ignore[reportPrivateUsage]

    def key_ids(self) -> set[str | None]:
        with self.engine.connect() as connection:
            return set(connection.execute(text("select distinct key_id from record_identities")).scalars())


@pytest.fixture
def scene(emptied: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    url = emptied.url.set(drivername="postgresql").render_as_string(hide_password=False)
    return Scene(emptied, url, tmp_path, monkeypatch)


def found(caller: Web, who: str) -> int:
    """How many records a deletion request finds by this address."""
    body = {"dataset": "people", "identities": [{"type": "email", "value": f"{who}@example.org"}]}
    answer = caller.post("/v1/deletion-requests", body)
    assert answer.status_code == 202, answer.text
    return answer.json()["record_count"] + answer.json()["already_erased"]


def _run_with_everything_sealed(scene: Scene, keyring: Keyring) -> None:
    """A run at work and a report on it, besides what calls have made."""
    with transaction(scene.engine) as tx:
        built = estate(tx)
        tx.execute(text("delete from record_identities where key_id is null"))  # its files exist nowhere
        built.submit(tx, "r-0")
        runs.plan_next(tx, at=AT)
        lease = runs.claim(tx, run_id=None, owner="w", ttl_s=60, at=AT)
        assert lease is not None
        rule = CheckpointRule(keyring, every_s=60, every_steps=0)
        made = prepare(
            tx, lease=lease, folder=scene.folder, uri=lambda key: f"s3://b/{key}", device="cpu", threads=1, rule=rule
        )
        keep(tx, lease=lease, prepared=made, at=AT)
        kid = keys.in_use(tx, keyring, at=AT).kid
        salt = keyring.seal("certificate-salt", b"salt")
        parts: dict[str, Any] = {"workspace_id": built.workspace_id, "run_id": lease.row_id, "kind": "report"}
        tx.add(Certificate(id=new_id("crt"), jws="x", kid=kid, sealed_salt=salt, **parts))


def _opened(scene: Scene, keyring: Keyring) -> dict[str, list[bytes]]:
    """Everything that is sealed, in clear."""
    values: dict[str, list[bytes]] = {}
    with scene.engine.connect() as connection:
        for sealed in SEALED:
            rows = connection.execute(text(f"select {sealed.column.key} from {sealed.table.__tablename__}")).scalars()  # noqa: S608
            values[sealed.name] = sorted(keyring.open(sealed.purpose, row) for row in rows if row)
    return values


def test_everything_survives_and_the_old_secret_is_needed_no_longer(scene: Scene) -> None:
    scene.register()
    hook = {"url": "http://127.0.0.1:9999/hook", "events": ["deletion_request.*"], "headers": {"X-Token": "t"}}
    made = scene.caller.post("/v1/webhook-endpoints", hook)
    assert made.status_code == 201, made.text
    endpoint = made.json()["id"]
    assert scene.caller.post(f"/v1/webhook-endpoints/{endpoint}/rotate-secret", {}).status_code == 200
    with scene.engine.begin() as connection:  # as an earlier release wrote it
        connection.execute(text("update webhook_endpoints set sealed_previous_secret = sealed_secret"))
    asked = erasure(str(uuid.uuid4()))
    receipt = scene.caller.post(f"{BASE}/requests", asked)
    assert receipt.status_code == 201, receipt.text
    _run_with_everything_sealed(scene, Keyring(OLD.encode()))
    before = _opened(scene, Keyring(OLD.encode()))
    assert all(before.values()), before.keys()
    cursor = scene.caller.get("/v1/audit-events?limit=1").json()["next_cursor"]

    both = scene.under(NEW, OLD)
    assert found(both, "ada") == 1
    assert both.get(f"/v1/audit-events?limit=1&cursor={cursor}").status_code == 200
    assert both.post(f"{BASE}/requests", asked).json() == receipt.json()
    finding = scene.finding(NEW, OLD)
    assert finding.state == "warning"
    assert all(sealed.name in finding.words for sealed in SEALED), finding.words
    assert scene.finding(NEW).state == "wrong"

    assert scene.rotate(NEW, OLD).exit_code == 0
    assert scene.finding(NEW, OLD) == doctor.Finding(
        "what is kept", "ok", "all under UNLEARN_SECRET; UNLEARN_PREVIOUS_SECRETS can be unset in every process"
    )
    assert _opened(scene, Keyring(NEW.encode())) == before
    alone = scene.under(NEW)
    assert [found(alone, who) for who in ("ada", "bob", "eve", "nobody")] == [1, 1, 1, 0]
    assert alone.post(f"{BASE}/requests", asked).json() == receipt.json()
    assert found(scene.under(OLD), "bob") == 0
    assert scene.key_ids() == {Keyring(NEW.encode()).key_id}


def test_a_rotation_that_broke_off_goes_on_with_the_file_it_was_at(scene: Scene) -> None:
    scene.register()
    content = (scene.imports / "b.jsonl").read_text()
    (scene.imports / "b.jsonl").unlink()
    halted = scene.rotate(NEW, OLD)
    assert halted.exit_code == 1
    (told,) = json.loads(halted.stdout)["datasets"]
    assert told["digests"] == 3
    assert told["why"].startswith("b.jsonl is not there any longer")
    assert [found(scene.under(NEW, OLD), who) for who in ("ada", "eve")] == [1, 1]
    assert scene.finding(NEW, OLD).state == "warning"

    (scene.imports / "b.jsonl").write_text(content.replace("eve", "eva"))
    assert scene.rotate(NEW, OLD).exit_code == 1, "a file that has changed is not the one that was registered"
    (scene.imports / "b.jsonl").write_text(content)
    (scene.imports / "a.jsonl").unlink()
    done = scene.rotate(NEW, OLD)
    assert done.exit_code == 0, "the first file is done and not read again"
    assert json.loads(done.stdout)["datasets"][0]["digests"] == 2
    assert [found(scene.under(NEW), who) for who in ("ada", "eve")] == [1, 1]


def test_digests_of_an_unknown_age_are_made_anew(scene: Scene) -> None:
    scene.register()
    with scene.engine.begin() as connection:
        connection.execute(text("update record_identities set key_id = null"))
        connection.execute(text("update dataset_files set identities_key_id = null"))
    assert found(scene.under(OLD), "ada") == 1
    assert scene.rotate(OLD).exit_code == 0
    assert scene.key_ids() == {Keyring(OLD.encode()).key_id}


def test_an_answer_kept_under_the_old_secret_is_given_again_until_it_ends(scene: Scene) -> None:
    scene.register()
    body = {"dataset": "people", "identities": [{"type": "email", "value": "ada@example.org"}]}
    once = {"Idempotency-Key": "k-1"}
    first = scene.caller.post("/v1/deletion-requests", body, headers=once)
    assert scene.under(NEW, OLD).post("/v1/deletion-requests", body, headers=once).json() == first.json()
    assert scene.rotate(NEW, OLD).exit_code == 0
    finding = scene.finding(NEW, OLD)
    assert (finding.state, "1 answers" in finding.words) == ("warning", True)
    refused = scene.under(NEW).post("/v1/deletion-requests", body, headers=once)
    assert refused.json()["code"] == "idempotency_key_reused"
