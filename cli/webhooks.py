"""``unlearn webhooks``: who is told what happens, and what became of it, over the API."""

from typing import Annotated, Any

import typer

from cli.client import DEFAULT_URL, AsJson, Key, Url, connect
from cli.output import Failed, print_fields, print_json, print_rows
from cli.selecting import pairs

app = typer.Typer(no_args_is_help=True, help="Webhook endpoints, their delivery log, and events.")

_PATH = "/v1/webhook-endpoints"
_COLUMNS = ("id", "url", "events", "enabled", "disabled_reason", "failing_since", "created_at")
_DELIVERY_COLUMNS = ("message_id", "type", "status", "attempts", "last", "next_attempt_at", "created_at")
_EVENT_COLUMNS = ("id", "type", "timestamp", "data")

Events = Annotated[list[str] | None, typer.Option("--event", help="Type, or prefix such as run.*; repeat. None: all.")]
EventType = Annotated[str | None, typer.Option("--type", help="Type, or prefix such as run.*.")]
Algorithm = Annotated[str | None, typer.Option(help="hmac-sha256 or ed25519.")]
Secret = Annotated[
    str | None, typer.Option("--secret", envvar="UNLEARN_WEBHOOK_SECRET", help="Your own key: whsec_… or whsk_….")
]


@app.command()
def create(
    address: Annotated[str, typer.Argument(help="https address that events are sent to.")],
    event: Events = None,
    description: Annotated[str | None, typer.Option()] = None,
    header: Annotated[list[str] | None, typer.Option(help="name=value sent with every message; repeat.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(help="name=value kept with the endpoint; repeat.")] = None,
    algorithm: Algorithm = None,
    secret: Secret = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Register an endpoint; its secret is shown now."""
    fields: dict[str, Any] = {
        "url": address,
        "events": event,
        "description": description,
        "headers": pairs(header or [], "--header"),
        "metadata": pairs(metadata or [], "--metadata"),
        "algorithm": algorithm,
        "secret": secret,
    }
    with connect(url, key) as api:
        _print(api.post(_PATH, {name: value for name, value in fields.items() if value}), as_json=as_json)


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1)] = 50, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False
) -> None:
    """Endpoints, the newest first."""
    with connect(url, key) as api:
        found = list(api.pages(_PATH, limit=limit))
    print_json(found) if as_json else print_rows(found, _COLUMNS)


@app.command()
def show(endpoint_id: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """One endpoint, and how it has done for a day."""
    with connect(url, key) as api:
        endpoint, stats = api.get(f"{_PATH}/{endpoint_id}"), api.get(f"{_PATH}/{endpoint_id}/stats")
    _print({**endpoint, "last_day": stats}, as_json=as_json)


@app.command()
def enable(endpoint_id: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Send to an endpoint again; what it missed is sent by a replay."""
    with connect(url, key) as api:
        _print(api.patch(f"{_PATH}/{endpoint_id}", {"enabled": True}), as_json=as_json)


@app.command()
def disable(endpoint_id: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Send nothing more to an endpoint, and discard what waits for it."""
    with connect(url, key) as api:
        _print(api.patch(f"{_PATH}/{endpoint_id}", {"enabled": False}), as_json=as_json)


@app.command()
def delete(endpoint_id: str, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Delete an endpoint and its secrets."""
    with connect(url, key) as api:
        api.delete(f"{_PATH}/{endpoint_id}")


@app.command()
def rotate(
    endpoint_id: str,
    grace_seconds: Annotated[
        int | None, typer.Option(min=0, help="How long the old key signs; default: a day.")
    ] = None,
    algorithm: Algorithm = None,
    secret: Secret = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Another key; for a while the old one signs as well."""
    fields = {"grace_seconds": grace_seconds, "algorithm": algorithm, "secret": secret}
    with connect(url, key) as api:
        body = {name: value for name, value in fields.items() if value is not None}
        _print(api.post(f"{_PATH}/{endpoint_id}/rotate-secret", body), as_json=as_json)


@app.command()
def secret(endpoint_id: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """The secret or public key of an endpoint; that it was read is in the audit log."""
    with connect(url, key) as api:
        read = api.get(f"{_PATH}/{endpoint_id}/secret")
    _print({name: read[name] for name in ("algorithm", "secret", "public_key", "headers")}, as_json=as_json)


@app.command("test")
def send_test(
    endpoint_id: str,
    type_name: Annotated[str, typer.Option("--type", help="Which sample.")] = "ping",
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Send a sample and say what came of it; exit code 1 unless it was delivered."""
    with connect(url, key) as api:
        sent = api.post(f"{_PATH}/{endpoint_id}/test", {"type": type_name})
    _print(sent if as_json else _shown(sent), as_json=as_json)
    if sent["status"] != "delivered":
        raise Failed(f"the test event is {sent['status']}: {_last(sent) or 'no attempt has been made yet'}")


@app.command()
def deliveries(
    endpoint_id: str,
    status: Annotated[str | None, typer.Option(help="pending, delivered, exhausted or discarded.")] = None,
    type_name: EventType = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """What was sent to an endpoint, the newest first."""
    with connect(url, key) as api:
        found = list(api.pages(f"{_PATH}/{endpoint_id}/deliveries", limit=limit, status=status, type=type_name))
    print_json(found) if as_json else print_rows([_shown(row) for row in found], _DELIVERY_COLUMNS)


@app.command()
def retry(endpoint_id: str, message_id: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Send one message to an endpoint once more."""
    with connect(url, key) as api:
        sent = api.post(f"{_PATH}/{endpoint_id}/deliveries/{message_id}/retry")
    _print(sent if as_json else _shown(sent), as_json=as_json)


@app.command()
def replay(
    endpoint_id: str,
    since: Annotated[str, typer.Option(help="From this moment on, RFC 3339; at most 30 days ago.")],
    until: Annotated[str | None, typer.Option(help="Before this moment; default: now.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what was delivered before.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Send an endpoint the events of a span of time that it has not had."""
    body = {"since": since, "only_failed": not everything, **({"until": until} if until else {})}
    with connect(url, key) as api:
        _print(api.post(f"{_PATH}/{endpoint_id}/replay", body), as_json=as_json)


@app.command()
def events(
    type_name: EventType = None,
    after: Annotated[str | None, typer.Option(help="After this moment, RFC 3339.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """What has happened, the newest first, whether or not anybody was told."""
    with connect(url, key) as api:
        found = list(api.pages("/v1/events", limit=limit, type=type_name, created_after=after))
    print_json(found) if as_json else print_rows(found, _EVENT_COLUMNS)


@app.command()
def types(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Every type of event; with --json their schemas."""
    with connect(url, key) as api:
        found = api.get("/v1/event-types")["data"]
    print_json(found) if as_json else print_rows(found, ("type", "summary"))


def _print(fields: dict[str, Any], *, as_json: bool) -> None:
    print_json(fields) if as_json else print_fields(fields)


def _shown(delivery: dict[str, Any]) -> dict[str, Any]:
    return {**delivery, "attempts": len(delivery["attempts"]), "last": _last(delivery)}


def _last(delivery: dict[str, Any]) -> str | None:
    if not delivery["attempts"]:
        return None
    attempt = delivery["attempts"][-1]
    return f"{attempt['status_code'] or attempt['error']} after {attempt['latency_ms']} ms"
