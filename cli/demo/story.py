"""What happens in the demo, step by step, through the public API; and what must be true of it."""

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cli.client import Api, connect
from cli.database import opened
from cli.demo import training
from cli.demo.receiver import Receiver, verify
from cli.demo.report import Shown
from cli.following import follow_dataset, follow_request
from cli.models import fetch
from cli.output import Failed, console, stderr
from cli.processes import local_url
from cli.uploading import upload
from core.access import service
from core.platform.clock import utc_now
from core.platform.ids import new_id
from core.platform.settings import Settings

SUBJECT: Final = "writer-03"
_DATASET: Final = "digits"
_MODEL: Final = "digits-classifier"
_TASK: Final = "image-classification"
_RUN_LIMIT_S: Final = 300.0
_WEBHOOK_LIMIT_S: Final = 60.0


def train(folder: Path) -> training.Customer:
    """The customer's model and records, below ``folder``."""
    console.print("[bold]1[/]  A customer trains an image classifier; it knows its digits by heart")
    columns = (TextColumn("   epoch"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bar:
        task = bar.add_task("train", total=None)
        customer = training.build(folder, on_epoch=lambda done, of: bar.update(task, completed=done, total=of))
    console.print(
        f"   {customer.train_records} digits of {training.WRITERS} writers, "
        f"training accuracy {customer.train_accuracy:.1%}"
    )
    return customer


def first_key(settings: Settings) -> service.NewKey:
    """A key for everything in a workspace of this demo's own, so that the demo can be played again."""
    at = utc_now()
    with opened(settings) as tx:
        name = f"demo-{new_id('ws')[-8:]}"
        workspace = service.create_workspace(tx, name=name, actor="cli", at=at)
        return service.create_key(
            tx, workspace_id=workspace.id, name="demo", scopes=["*"], mode="live", actor="cli", at=at
        )


def play(
    settings: Settings,
    key: service.NewKey,
    customer: training.Customer,
    folder: Path,
    *,
    docs: str,
    glance: Callable[[], object],
) -> Shown:
    """From the upload to the downloaded new weights. Raises ``Failed`` when anything is not as it must be.

    ``glance`` is called while waiting and may raise; ``docs`` goes into the report.
    """
    with connect(local_url(settings), key.secret) as api, Receiver() as receiver:
        _register(api, customer)
        secret = _subscribe(api, receiver)
        console.print(f"[bold]4[/]  {SUBJECT} asks to be forgotten")
        started = time.monotonic()
        request = _ask(api)
        ended = follow_request(api, request["id"], limit_s=_RUN_LIMIT_S, glance=glance)
        seconds = time.monotonic() - started
        run = _good_run(api, ended)
        console.print("[bold]5[/]  The webhook comes, the new weights are downloaded, everything is checked")
        checked_by = _good_webhook(receiver, secret, request["id"])
        version = _good_version(api, run, folder / "published")
        _base_untouched(api, run, customer, folder / "base")
    return Shown(ended, run, version, checked_by, seconds, docs)


def _register(api: Api, customer: training.Customer) -> None:
    console.print(f"[bold]3[/]  Data set [bold]{_DATASET}[/] and model [bold]{_MODEL}[/] are uploaded and registered")
    dataset = {
        "name": _DATASET,
        "task": _TASK,
        "format": "parquet",
        "columns": dict(training.COLUMNS),
        "image_shape": list(training.IMAGE_SHAPE),
        "upload_id": upload(api, customer.records),
    }
    api.post("/v1/datasets", dataset)
    follow_dataset(api, _DATASET)
    api.post("/v1/models", {"name": _MODEL, "task": _TASK, "dataset": _DATASET})
    api.post(f"/v1/models/{_MODEL}/versions", {"upload_id": upload(api, customer.model)})


def _subscribe(api: Api, receiver: Receiver) -> str:
    body = {"url": receiver.url, "events": ["deletion_request.*"], "description": "the demo's receiver"}
    return str(api.post("/v1/webhook-endpoints", body)["secret"])


def _ask(api: Api) -> dict[str, Any]:
    body = {"model": _MODEL, "subject_ids": [SUBJECT], "reason": "gdpr_art_17", "external_id": "DEMO-1"}
    request = api.post("/v1/deletion-requests", body)
    console.print(f"   {request['id']}: {request['record_count']} records, {request['status']}")
    return request


def _good_run(api: Api, request: Mapping[str, Any]) -> dict[str, Any]:
    run = api.get(f"/v1/runs/{request['run_ids'][-1]}") if request["run_ids"] else {}
    reason = run.get("error") or run.get("stop_reason")
    _must(request["status"] == "completed", f"the request ended as {request['status']}: {reason}")
    _must(run.get("status") == "succeeded", f"the run ended as {run.get('status')}: {reason}")
    # A target that was missed is named in the report; whether it counts is the verdict's word.
    _must(run["stop_reason"] in ("target_reached", "targets_unmet"), f"the run stopped for {reason}")
    passed = run["verdict"] in ("passed", "passed_with_warnings")
    _must(passed, f"the verdict is {run['verdict']}: {run['verdict_reasons']}")
    before, after = run["metrics"]["before"]["forget"], run["metrics"]["after"]["forget"]
    _must(after["loss"] > before["loss"], "the forget loss has not risen")
    return run


def _good_webhook(receiver: Receiver, secret: str, request_id: str) -> str:
    delivery = receiver.wait_for("deletion_request.completed", limit_s=_WEBHOOK_LIMIT_S)
    payload, checked_by = verify(delivery, secret)
    _must(payload["data"]["id"] == request_id, "the webhook tells of another request")
    return checked_by


def _good_version(api: Api, run: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    version = api.get(f"/v1/models/{_MODEL}/versions/latest")
    _must(version["version"] == run["published_version"], "'latest' does not point at the new version")
    _must(version["parent_version"] == run["base_version"], "the new version has another parent")
    fetch(version, folder)
    return version


def _base_untouched(api: Api, run: Mapping[str, Any], customer: training.Customer, folder: Path) -> None:
    fetch(api.get(f"/v1/models/{_MODEL}/versions/{run['base_version']}"), folder)
    for file in customer.model.iterdir():
        _must(_digest(file) == _digest(folder / file.name), f"{file.name} of the base version has changed")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)
