"""``unlearn holds``: legal holds, over the API."""

from typing import Annotated

import typer

from cli.client import DEFAULT_URL, AsJson, Key, Url, connect
from cli.output import Failed, print_fields, print_json, print_rows

app = typer.Typer(no_args_is_help=True, help="Legal holds: what must not be erased for now.")


@app.command()
def place(
    reason: Annotated[str, typer.Option(help="Kept in the audit log; no personal data.")],
    dataset: Annotated[str | None, typer.Option(help="A data set, with its models.")] = None,
    model: Annotated[str | None, typer.Option(help="A model.")] = None,
    workspace: Annotated[bool, typer.Option("--workspace", help="Everything.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Stop planning, rewriting and purging of a data set, a model or everything."""
    wanted = {"workspace": workspace or None, "dataset": dataset, "model": model}
    scopes = [scope for scope, value in wanted.items() if value]
    if len(scopes) != 1:
        raise Failed("give one of --dataset, --model and --workspace")
    name = {"name": dataset or model} if not workspace else {}
    with connect(url, key) as api:
        hold = api.post("/v1/legal-holds", {"scope": scopes[0], "reason": reason, **name})
    print_json(hold) if as_json else print_fields(hold)


@app.command()
def release(
    hold: Annotated[str, typer.Argument(help="hold_…")],
    reason: Annotated[str, typer.Option(help="Kept in the audit log; no personal data.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """End a legal hold; what waited for it alone goes on."""
    with connect(url, key) as api:
        released = api.post(f"/v1/legal-holds/{hold}/release", {"reason": reason})
    print_json(released) if as_json else print_fields(released)


@app.command("list")
def list_holds(
    every: Annotated[bool, typer.Option("--all", help="Released ones too.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """The legal holds in force."""
    with connect(url, key) as api:
        found = list(api.pages("/v1/legal-holds", limit=None, in_force=None if every else "true"))
    if as_json:
        print_json(found)
    else:
        print_rows(found, ("id", "scope", "name", "reason", "created_at", "released_at"))
