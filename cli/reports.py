"""``unlearn reports``: what the service can show for itself, over the API."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import DEFAULT_URL, AsJson, Key, Url, connect
from cli.output import print_fields, print_json, print_rows

app = typer.Typer(no_args_is_help=True, help="Reports.")

_COLUMNS = ("regulation", "requests", "completed", "on_time", "late", "open", "overdue", "median_days", "p95_days")


@app.callback()
def _group() -> None:
    """Reports."""


@app.command()
def compliance(
    start: Annotated[str | None, typer.Option("--from", help="RFC 3339; default: 365 days before --to.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="RFC 3339; default: now.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a line for each request to this file instead.")] = None,
    copies: Annotated[bool, typer.Option("--copies", help="With --csv: a line for each superseded copy.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """How deadlines were kept, and what is left of what was erased."""
    period = {"from": start, "to": end}
    with connect(url, key) as api:
        if csv is not None:
            api.download("/v1/reports/compliance", csv, format="csv", about="copies" if copies else None, **period)
            return
        report = api.get("/v1/reports/compliance", **period)
    print_json(report) if as_json else _print(report)


def _print(report: dict[str, Any]) -> None:
    print_fields({name: report[name] for name in ("from", "to", "generated_at")})
    groups = {**report["regulations"], "total": report["total"]}
    print_rows([_row(name, group) for name, group in groups.items()], _COLUMNS)
    print_fields({"overdue": report["overdue"]})
    erasure = report["erasure"]
    if erasure["copies"]:
        print_rows(erasure["copies"], ("kind", "name", "number", "path", "state", "blocked_by", "keep_until"))
    if erasure["datasets"]:
        print_rows(erasure["datasets"], ("dataset", "records", "why"))
    if erasure["legal_holds"]:
        print_rows(erasure["legal_holds"], ("id", "scope", "name", "reason", "created_at"))


def _row(name: str, group: dict[str, Any]) -> dict[str, Any]:
    outcomes, lasted = group["outcomes"], group["times"]["complete"]
    return {
        "regulation": name,
        **{field: group[field] for field in ("requests", "on_time", "late")},
        "completed": outcomes["completed"],
        "open": sum(outcomes[status] for status in ("pending", "in_progress", "needs_review")),
        "overdue": group["open_by_time_left"]["overdue"],
        "median_days": _days(lasted["median_s"]),
        "p95_days": _days(lasted["p95_s"]),
    }


def _days(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds / 86_400, 2)
