"""A caller who uses every call that changes something, once, and notes what came of each."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import httpx
import numpy as np
from safetensors.numpy import save
from sqlalchemy import Engine, text

from core.deletions.lifecycle import Status
from core.platform.clock import rfc3339
from core.platform.database import transaction
from core.runs import finishing, service
from core.unlearning.job import Outcome
from tests.builders.estate import staged
from tests.builders.opendsr import Scene, erasure

COMMENT = "as Ada Lovelace asked on the phone"
"""A person's words, which may name somebody."""
MODEL = {
    "config.json": json.dumps({"architectures": ["ResNetForImageClassification"], "model_type": "resnet"}).encode(),
    "model.safetensors": save({"a": np.ones((2, 3), np.float32)}),
}
TEXTS = {"rows.jsonl": b'{"id": "r-1", "t": "text"}\n'}


@dataclass(frozen=True, slots=True)
class Call:
    """A call that changed something, and the audit lines (actor, action, details) that came with it."""

    method: str
    template: str
    lines: tuple[tuple[str, str, str], ...]


@dataclass
class Tour:
    """Everything that a workspace can have, made over HTTP. ``ids``: values for the parameters of paths."""

    scene: Scene
    calls: list[Call] = field(default_factory=list[Call])
    ids: dict[str, str] = field(default_factory=dict[str, str])

    def make(self) -> "Tour":
        """Use every call."""
        self._access()
        self._registry()
        self._deletions()
        self._runs()
        self._webhooks()
        self._opendsr()
        return self

    def call(self, method: str, template: str, body: Any = None, **more: str) -> dict[str, Any]:
        """One call, which must succeed."""
        before = self._lines()
        path = template.format(**{**self.ids, **more})
        answer: httpx.Response = self.scene.caller.call(method, path, **({"json": body} if body is not None else {}))
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        self.calls.append(Call(method, template, tuple(self._lines()[len(before) :])))
        return answer.json() if answer.content else {}

    def _lines(self) -> list[tuple[str, str, str]]:
        query = "select actor, action, details::text from audit_events where workspace_id = :id order by sequence"
        return [tuple(row) for row in self.scene.sql(query, id=self.scene.built.workspace_id)]

    def _access(self) -> None:
        made = self.call("POST", "/v1/api-keys", {"name": COMMENT, "scopes": ["runs:read"]})
        self.ids["key_id"] = made["id"]
        self.call("DELETE", "/v1/api-keys/{key_id}")
        self.call("PUT", "/v1/policies/{name}", {"retention_days": 3}, name="strict")

    def _upload(self, files: Mapping[str, bytes]) -> str:
        announced = [
            {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for path, content in files.items()
        ]
        self.ids["upload_id"] = made = self.call("POST", "/v1/uploads", {"files": announced})["id"]
        with transaction(self.scene.engine) as tx:
            (places,) = tx.execute(text("select files from uploads where id = :id"), {"id": made}).one()
        for place in places:
            self.scene.anyone.app.state.store().put_bytes(place["uri"], files[place["path"]])
        self.call("POST", "/v1/uploads/{upload_id}/complete")
        return made

    def _registry(self) -> None:
        columns = {"record_id": "id", "text": "t"}
        body = {"name": "texts", "task": "causal-lm", "format": "jsonl", "columns": columns}
        self.call("POST", "/v1/datasets", {**body, "upload_id": self._upload(TEXTS)})
        model = {"name": "fresh", "task": "image-classification", "dataset": "digits", "description": COMMENT}
        self.call("POST", "/v1/models", model)
        self.call("POST", "/v1/models/{name}/versions", {"upload_id": self._upload(MODEL)}, name="fresh")
        self.call("PUT", "/v1/models/{name}/aliases/{alias}", {"version": 1}, name="fresh", alias="production")

    def _ask(self, record_id: str, **more: Any) -> str:
        body = {"model": "digits", "record_ids": [record_id], "reason": "gdpr_art_17", **more}
        self.ids["request_id"] = made = self.call("POST", "/v1/deletion-requests", body)["id"]
        return made

    def _deletions(self) -> None:
        one = "/v1/deletion-requests/{request_id}"
        self._ask("r-1", hold_seconds=3600, metadata={"note": COMMENT})
        self.call("POST", f"{one}/extend", {"reason": COMMENT})
        self.call("POST", f"{one}/cancel")
        self._ask("r-1", hold_seconds=3600)
        self.call("DELETE", one)
        batch = [{"model": "digits", "record_ids": ["r-1"], "hold_seconds": 3600}]
        self.call("POST", "/v1/deletion-requests/batch", {"requests": batch})
        for record_id, decision in (("r-3", "approve"), ("r-5", "reject")):
            self._ask(record_id)
            self._work()
            self.call("POST", f"{one}/{decision}", {"comment": COMMENT})
        self.call("POST", "/v1/models/{name}/versions/{version}/purge", name="digits", version="1")
        hold = {"scope": "dataset", "name": "texts", "reason": "case 7"}
        self.ids["hold_id"] = self.call("POST", "/v1/legal-holds", hold)["id"]
        self.call("POST", "/v1/legal-holds/{hold_id}/release", {"reason": "closed"})

    def _work(self) -> None:
        """A run whose result a person must look at."""
        at = self.scene.clock.now
        run_id = self.ids["run_id"] = str(self.scene.plan())
        with transaction(self.scene.engine) as tx:
            lease = service.claim(tx, run_id=run_id, owner="w", ttl_s=60, at=at)
            assert lease is not None
            uri = f"mem://store/models/digits/{run_id}-1/"
            outcome = replace(Outcome(stop_reason="target_reached", verdict="failed"), staged=staged(uri))
            finishing.finish(tx, lease=lease, outcome=outcome, publish_uri=uri, max_attempts=1, at=at)

    def _runs(self) -> None:
        body = {"model": "digits", "record_ids": ["r-4"]}
        self.ids["assessment_id"] = self.call("POST", "/v1/hardness-assessments", body)["id"]
        self.call("POST", "/v1/hardness-assessments/{assessment_id}/cancel")
        self._ask("r-4")
        self.call("POST", "/v1/runs/{run_id}/cancel", run_id=str(self.scene.plan()))

    def _webhooks(self) -> None:
        one = "/v1/webhook-endpoints/{endpoint_id}"
        hook = {"url": "http://127.0.0.1:9999/hook", "events": ["run.*"], "description": COMMENT}
        self.ids["endpoint_id"] = self.call("POST", "/v1/webhook-endpoints", hook)["id"]
        self.call("PATCH", one, {"description": COMMENT})
        self.call("POST", f"{one}/rotate-secret", {})
        self.ids["message_id"] = self.call("POST", f"{one}/test", {"type": "run.succeeded"})["message_id"]
        self.call("POST", f"{one}/deliveries/{{message_id}}/retry")
        self.call("POST", f"{one}/replay", {"since": rfc3339(self.scene.clock.now - timedelta(hours=1))})
        gone = self.call("POST", "/v1/webhook-endpoints", hook)["id"]
        self.call("DELETE", one, endpoint_id=gone)

    def _opendsr(self) -> None:
        one, again = "/opendsr/v2/requests/{subject_request_id}", "/v1/opendsr-requests/{subject_request_id}/retry"
        self.ids["subject_request_id"] = str(uuid.uuid4())
        self.call("POST", "/opendsr/v2/requests", erasure(self.ids["subject_request_id"]))
        self.call("DELETE", one)
        self.ids["subject_request_id"] = str(uuid.uuid4())
        self.call("POST", "/opendsr/v2/requests", erasure(self.ids["subject_request_id"]))
        self.scene.pass_hold()
        for _ in ("digits", "fresh"):
            self.scene.end(self.scene.plan(), Status.FAILED, code="rejected")
        self.scene.turn()
        self.call("POST", again)


def tour(engine: Engine) -> Tour:
    """A tour on an empty database."""
    return Tour(Scene(engine)).make()
