"""A controller that uses our OpenDSR processor, in process, and the work that its requests lead to."""

import base64
import hashlib
import json
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from sqlalchemy import Engine, text

from core.datasets.identities import identity_digests
from core.datasets.tables import RecordIdentity
from core.deletions import progress
from core.deletions.lifecycle import Status
from core.opendsr.profile import Profile
from core.opendsr.signing import Signer, open_signer
from core.platform.clock import utc_now
from core.platform.database import transaction
from core.runs.planning import plan_next
from tests.builders.estate import Estate, estate
from tests.builders.web import DOMAIN, Clock, Web, keyring, settings, web
from worker.loops import opendsr
from worker.loops.sender_pool import drain

BASE = "/opendsr/v2"
ADA = "ada@example.org"
WEBHOOKS = {"allow_http": True, "allow_networks": ["127.0.0.0/8"], "jitter": 0}


def new_id() -> str:
    return str(uuid.uuid4())


def erasure(subject_request_id: str | None = None, **changes: Any) -> dict[str, Any]:
    """An erasure of Ada, whose records are ``r-0`` and ``r-2``."""
    return {
        "regulation": "gdpr",
        "subject_request_id": subject_request_id or new_id(),
        "subject_request_type": "erasure",
        "submitted_time": "2020-01-01T00:00:00Z",
        "subject_identities": [{"identity_type": "email", "identity_value": ADA, "identity_format": "raw"}],
        **changes,
    }


_apps: dict[tuple[Engine, str], tuple[Web, Clock, Signer]] = {}
"""An application is costly to make, and the same for all tests on one database with the same settings."""


def _app(engine: Engine, sections: Mapping[str, Any]) -> tuple[Web, Clock, Signer]:
    key = (engine, json.dumps(sections, sort_keys=True))
    if key not in _apps:
        clock, signer = Clock(), open_signer(settings(**sections))
        assert signer is not None
        _apps[key] = (web(engine, clock, **sections), clock, signer)
    return _apps[key]


class Scene:
    """A workspace with models trained on Ada's records, a clock, and a controller with a key."""

    def __init__(self, engine: Engine, *, models: Sequence[str] = ("digits",), **sections: Any) -> None:
        self.engine = engine
        sections.setdefault("webhooks", WEBHOOKS)
        self.settings = settings(**sections)
        self.anyone, self.clock, self.signer = _app(engine, sections)
        self.clock.now = utc_now()
        with transaction(engine) as tx:
            self.built: Estate = estate(tx, models=models)
            for record_id in ("r-0", "r-2"):
                (digest,) = identity_digests(keyring(), "email", ADA)
                dataset_id = self.built.datasets["digits"]
                tx.add(RecordIdentity(dataset_id=dataset_id, type="email", digest=digest, record_id=record_id))
        self.caller: Web = self.anyone.customer(self.built.workspace_id)

    def create(self, **changes: Any) -> dict[str, Any]:
        """A request that must be taken; its receipt."""
        answer = self.caller.post(f"{BASE}/requests", erasure(**changes))
        assert answer.status_code == 201, answer.text
        return answer.json()

    def status(self, subject_request_id: str) -> dict[str, Any]:
        answer = self.caller.get(f"{BASE}/requests/{subject_request_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def finer(self, subject_request_id: str) -> dict[str, Any]:
        return self.status(subject_request_id)["extensions"][DOMAIN]

    def pass_hold(self) -> None:
        """The hold is over, for us and for the planner, who goes by the database's clock."""
        self.clock.now += timedelta(seconds=self.settings.opendsr.hold_s + 1)
        self.sql("update deletion_requests set hold_until = now() - interval '1 second' where hold_until is not null")

    def turn(self) -> int:
        """Let everything follow that has something to follow; how much that was."""
        return sum(iter(lambda: opendsr.turn(self.engine, Profile.of(self.settings), self.clock), False))

    def plan(self) -> str | None:
        """A run for one model; its id."""
        with transaction(self.engine) as tx:
            planned = plan_next(tx, at=self.clock.now)
        return planned.run_id if planned else None

    def end(self, run_id: str | None, to: Status, **detail: Any) -> None:
        """What a run that has ended does to its requests."""
        assert run_id is not None
        with transaction(self.engine) as tx:
            progress.settle(
                tx, workspace_id=self.built.workspace_id, run_id=run_id, to=to, kind=str(to), actor="system",
                detail=detail, at=self.clock.now,
            )  # fmt: skip
        self.sql("update runs set status = 'failed' where id = :id", id=run_id)

    def send(self, http: Any = None) -> int:
        """Send the callbacks that are due; how many attempts."""
        return drain(opendsr.CallbackSender(self.engine, self.settings, self.signer, http, self.clock))

    def sql(self, statement: str, **values: Any) -> list[Any]:
        with self.engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []


def verified(body: bytes, headers: Mapping[str, str], pem: str, form: str = "OpenDSR") -> Any:
    """The JSON value, if domain and signature are right; raises otherwise."""
    assert headers[f"X-{form}-Processor-Domain".lower()] == DOMAIN
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    signature = base64.b64decode(headers[f"X-{form}-Signature".lower()], validate=True)
    key.verify(signature, body, padding.PKCS1v15(), hashes.SHA256())
    return json.loads(body)


def signed(answer: httpx.Response, scene: Scene, form: str = "OpenDSR") -> Any:
    """The JSON value of a signed answer."""
    return verified(answer.content, answer.headers, scene.signer.pem, form)


def openssl_accepts(folder: Path, body: bytes, signature: str, pem: str) -> bool:
    """Whether stock tools accept the signature."""
    for name, content in (("cert.pem", pem.encode()), ("sig", base64.b64decode(signature)), ("body.bin", body)):
        (folder / name).write_bytes(content)
    key = subprocess.run(["openssl", "x509", "-pubkey", "-noout", "-in", "cert.pem"], cwd=folder, capture_output=True)
    (folder / "pub.pem").write_bytes(key.stdout)
    command = ["openssl", "dgst", "-sha256", "-verify", "pub.pem", "-signature", "sig", "body.bin"]
    return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
