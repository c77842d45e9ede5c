"""``unlearn runs``: what the workers did, over the API."""

import csv
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cli.client import DEFAULT_URL, Api, AsJson, Key, Url, connect
from cli.following import follow_run
from cli.output import Failed, Output, print_fields, print_json, print_rows, write_text
from cli.replaying import replay
from core.plots import PLOTS

app = typer.Typer(no_args_is_help=True, help="Unlearning runs.")
app.command()(replay)

_RECORD_COLUMNS = ("record_id", "loss_before", "loss_after", "correct_before", "correct_after", "target", "percentile")
_STEP_COLUMNS = ("step", "kind", "accepted", "forget_loss", "retain_loss", "kappa", "kappa_1", "kappa_2", "seconds")


@app.command()
def show(
    run_id: str,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the end.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """One run: status, hardness, metrics before and after, gates, verdict."""
    with connect(url, key) as api:
        run = follow_run(api, run_id) if follow else api.get(f"/v1/runs/{run_id}")
    print_json(run) if as_json else print_fields(run)


@app.command()
def steps(
    run_id: str,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with every column.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """The step ledger of a run."""
    with connect(url, key) as api:
        rows = all_steps(api, run_id)
    _print(rows, _STEP_COLUMNS, as_json=as_json, as_csv=as_csv)


@app.command()
def records(
    run_id: str,
    limit: Annotated[int | None, typer.Option(help="At most so many.", min=1)] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with every column.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """What was measured of each forget record before and after a run."""
    with connect(url, key) as api:
        rows = list(api.pages(f"/v1/runs/{run_id}/records", limit=limit))
    _print(rows, _RECORD_COLUMNS, as_json=as_json, as_csv=as_csv)


@app.command()
def plot(
    run_id: str,
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(PLOTS)}.")],
    output: Output = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Draw a run as SVG."""
    if name not in PLOTS:
        raise Failed(f"there is no plot {name!r}; use one of {', '.join(PLOTS)}")
    with connect(url, key) as api:
        write_text(api.text(f"/v1/runs/{run_id}/plots/{name}.svg"), output)


@app.command()
def cancel(run_id: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Stop a run at its next step; it publishes nothing."""
    with connect(url, key) as api:
        run = api.post(f"/v1/runs/{run_id}/cancel")
    print_json(run) if as_json else print_fields(run)


def _print(rows: list[dict[str, Any]], columns: Sequence[str], *, as_json: bool, as_csv: bool) -> None:
    """``columns``: those of the table, where they are there; JSON and CSV have all."""
    if as_json:
        print_json(rows)
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, list({name: None for row in rows for name in row}))
        writer.writeheader()
        writer.writerows(rows)
    else:
        print_rows(rows, [name for name in columns if any(name in row for row in rows)])


def all_steps(api: Api, run_id: str) -> list[dict[str, Any]]:
    """Every row of a run's step ledger."""
    rows: list[dict[str, Any]] = []
    while True:
        page = api.get(f"/v1/runs/{run_id}/steps", after=rows[-1]["step"] if rows else None)
        rows += page["data"]
        if not page["data"] or not page.get("has_more"):
            return rows
