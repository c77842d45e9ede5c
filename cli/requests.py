"""``unlearn requests``: ask for deletion and see what became of it, over the API."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import DEFAULT_URL, AsJson, Key, Url, connect
from cli.following import follow_request
from cli.output import Failed, print_fields, print_json, print_rows
from cli.selecting import pairs, selection

app = typer.Typer(no_args_is_help=True, help="Deletion requests.")

_COLUMNS = ("id", "status", "status_detail", "models", "record_count", "external_id", "created_at")


@app.command()
def submit(
    model: Annotated[str | None, typer.Option(help="Model; default: all trained on the records.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set; default: the model's.")] = None,
    record: Annotated[list[str] | None, typer.Option(help="Record id; repeat.")] = None,
    records_file: Annotated[Path | None, typer.Option(help="File with a record id a line.")] = None,
    subject: Annotated[list[str] | None, typer.Option(help="Subject id; repeat.")] = None,
    identity: Annotated[list[str] | None, typer.Option(help="type=value, for example email=a@b.c; repeat.")] = None,
    reason: Annotated[str | None, typer.Option()] = None,
    external_id: Annotated[str | None, typer.Option(help="Your own id of this request.")] = None,
    regulation: Annotated[str | None, typer.Option(help="gdpr, ccpa or the policy's; default: by the reason.")] = None,
    received_at: Annotated[str | None, typer.Option(help="When it reached you, RFC 3339; default: now.")] = None,
    due_at: Annotated[str | None, typer.Option(help="Deadline, RFC 3339; default: the regulation's.")] = None,
    hold_seconds: Annotated[int | None, typer.Option(min=0, help="Wait this long before starting.")] = None,
    policy: Annotated[str | None, typer.Option()] = None,
    metadata: Annotated[list[str] | None, typer.Option(help="name=value kept with the request; repeat.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the end.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Ask that records, subjects or people be unlearned."""
    fields: dict[str, Any] = {
        "model": model,
        **selection(dataset=dataset, record=record, records_file=records_file, subject=subject, identity=identity),
        "reason": reason,
        "external_id": external_id,
        "regulation": regulation,
        "received_at": received_at,
        "due_at": due_at,
        "hold_seconds": hold_seconds,
        "policy": policy,
        "metadata": pairs(metadata or [], "--metadata"),
    }
    with connect(url, key) as api:
        request = api.post("/v1/deletion-requests", {name: value for name, value in fields.items() if value})
        if follow:
            request = follow_request(api, request["id"])
    _print(request, as_json=as_json)
    if follow:
        _require_completed(request)


@app.command()
def show(request_id: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """One deletion request."""
    with connect(url, key) as api:
        _print(api.get(f"/v1/deletion-requests/{request_id}"), as_json=as_json)


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option()] = None,
    model: Annotated[str | None, typer.Option()] = None,
    external_id: Annotated[str | None, typer.Option()] = None,
    subject: Annotated[str | None, typer.Option()] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Deletion requests, the newest first."""
    filters = {"status": status, "model": model, "external_id": external_id, "subject": subject}
    with connect(url, key) as api:
        found = list(api.pages("/v1/deletion-requests", limit=limit, **filters))
    print_json(found) if as_json else print_rows(found, _COLUMNS)


@app.command()
def cancel(request_id: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Withdraw a request that has not started."""
    with connect(url, key) as api:
        _print(api.post(f"/v1/deletion-requests/{request_id}/cancel"), as_json=as_json)


@app.command()
def extend(
    request_id: str,
    reason: Annotated[str, typer.Option(help="Why; no personal data.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Move the deadline by what the regulation allows, once."""
    with connect(url, key) as api:
        _print(api.post(f"/v1/deletion-requests/{request_id}/extend", {"reason": reason}), as_json=as_json)


@app.command()
def follow(request_id: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Wait for the end of a request; exit code 1 unless it is completed."""
    with connect(url, key) as api:
        request = follow_request(api, request_id)
    _print(request, as_json=as_json)
    _require_completed(request)


def _print(request: dict[str, Any], *, as_json: bool) -> None:
    print_json(request) if as_json else print_fields(request)


def _require_completed(request: dict[str, Any]) -> None:
    if request["status"] != "completed":
        raise Failed(f"{request['id']} is {request['status']}: {request.get('status_detail') or 'see its runs'}")
