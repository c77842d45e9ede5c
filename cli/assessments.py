"""``unlearn assessments``: ask beforehand how hard unlearning would be, over the API."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import DEFAULT_URL, AsJson, Key, Url, connect
from cli.following import follow_assessment
from cli.output import Failed, Output, print_fields, print_json, print_rows, write_text
from cli.selecting import selection

app = typer.Typer(no_args_is_help=True, help="Hardness assessments: quotes before anything is erased.")

_COLUMNS = ("id", "status", "model", "record_count", "verdict", "created_at")
_LONG = ("layers", "branches", "forecast")


@app.command()
def submit(
    model: Annotated[str, typer.Option(help="Model that would have to forget.")],
    dataset: Annotated[str | None, typer.Option(help="Data set; default: the model's.")] = None,
    record: Annotated[list[str] | None, typer.Option(help="Record id; repeat.")] = None,
    records_file: Annotated[Path | None, typer.Option(help="File with a record id a line.")] = None,
    subject: Annotated[list[str] | None, typer.Option(help="Subject id; repeat.")] = None,
    identity: Annotated[list[str] | None, typer.Option(help="type=value, for example email=a@b.c; repeat.")] = None,
    policy: Annotated[str | None, typer.Option(help="Policy to assess for; default: the model's.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the end.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Ask how hard it would be to unlearn records, subjects or people. Nothing is erased."""
    fields: dict[str, Any] = {
        "model": model,
        **selection(dataset=dataset, record=record, records_file=records_file, subject=subject, identity=identity),
        "policy": policy,
    }
    with connect(url, key) as api:
        assessment = api.post("/v1/hardness-assessments", {name: value for name, value in fields.items() if value})
        if follow:
            assessment = follow_assessment(api, assessment["id"])
    _print(assessment, as_json=as_json)
    if follow:
        _require_succeeded(assessment)


@app.command()
def show(assessment_id: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """One assessment: verdict, hardness, forecast and advice."""
    with connect(url, key) as api:
        _print(api.get(f"/v1/hardness-assessments/{assessment_id}"), as_json=as_json)


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option()] = None,
    model: Annotated[str | None, typer.Option()] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Hardness assessments, the newest first."""
    with connect(url, key) as api:
        found = list(api.pages("/v1/hardness-assessments", limit=limit, status=status, model=model))
    if as_json:
        print_json(found)
    else:
        print_rows([{**one, "verdict": (one["result"] or {}).get("verdict")} for one in found], _COLUMNS)


@app.command()
def plot(assessment_id: str, output: Output = None, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Draw the hardness of each layer as SVG."""
    with connect(url, key) as api:
        write_text(api.text(f"/v1/hardness-assessments/{assessment_id}/plots/layers.svg"), output)


@app.command()
def cancel(assessment_id: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Stop an assessment."""
    with connect(url, key) as api:
        _print(api.post(f"/v1/hardness-assessments/{assessment_id}/cancel"), as_json=as_json)


@app.command()
def follow(assessment_id: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Wait for the end of an assessment; exit code 1 unless it succeeds."""
    with connect(url, key) as api:
        assessment = follow_assessment(api, assessment_id)
    _print(assessment, as_json=as_json)
    _require_succeeded(assessment)


def _print(assessment: dict[str, Any], *, as_json: bool) -> None:
    """For people the result comes first and flat, without the table of layers."""
    result: dict[str, Any] | None = assessment.get("result")
    if as_json:
        print_json(assessment)
    elif result is None:
        print_fields(assessment)
    else:
        shown = {name: value for name, value in result.items() if name not in _LONG}
        forecast = {f"predicted {name}": value for name, value in (result.get("forecast") or {}).items()}
        rest = {name: assessment[name] for name in ("id", "status", "model", "base_version", "policy", "record_count")}
        print_fields({**rest, **shown, **forecast})


def _require_succeeded(assessment: dict[str, Any]) -> None:
    if assessment["status"] != "succeeded":
        error: dict[str, Any] = assessment.get("error") or {}
        raise Failed(f"{assessment['id']} is {assessment['status']}: {error.get('message', 'it measured nothing')}")
