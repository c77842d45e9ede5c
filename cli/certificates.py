"""``unlearn certificates``: fetch signed evidence over the API, and verify it offline."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.client import DEFAULT_URL, AsJson, Key, Url, connect
from cli.files import json_of, keys_at, text_of
from cli.output import Failed, console, print_fields, print_json, print_rows
from core.certificates import verifying

app = typer.Typer(no_args_is_help=True, help="Certificates and reports: signed evidence of what runs did.")

_COLUMNS: Final = ("id", "kind", "verdict", "model", "published_version", "run_id")
_MEDIA: Final = {"jws": "application/jose", "html": "text/html"}


@app.command("list")
def list_(
    model: Annotated[str | None, typer.Option(help="Name of a model.")] = None,
    run: Annotated[str | None, typer.Option(help="Id of a run.")] = None,
    request: Annotated[str | None, typer.Option(help="Id of a deletion request.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Certificates and reports, the newest first."""
    with connect(url, key) as api:
        found = list(api.pages("/v1/certificates", limit=limit, model=model, run=run, request=request))
    print_json(found) if as_json else print_rows(found, _COLUMNS)


@app.command()
def get(
    certificate_id: str,
    as_jws: Annotated[bool, typer.Option("--jws", help="The signed form alone.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="A page to print.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """One certificate or report; `--json`, `--jws` and `--html` print what can be kept in a file."""
    path = f"/v1/certificates/{certificate_id}"
    with connect(url, key) as api:
        if as_jws or as_html:
            console.out(api.text(path, accept=_MEDIA["jws" if as_jws else "html"]), highlight=False)
            return
        found = api.get(path)
    print_json(found) if as_json else print_fields(_brief(found))


@app.command()
def prove(
    certificate_id: str,
    record: Annotated[str, typer.Option(help="Id of a record.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """That a certificate speaks of a record, as JSON for `verify --proof`. It reveals no other record."""
    with connect(url, key) as api:
        print_json(api.get(f"/v1/certificates/{certificate_id}/proof", record_id=record))


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A certificate: the API's JSON, or the signed form alone.")],
    jwks: Annotated[str, typer.Option(help="The service's public keys: a file, or the URL of its jwks.json.")],
    issuer: Annotated[str | None, typer.Option(help="Who must have issued it, for example https://….")] = None,
    proof: Annotated[Path | None, typer.Option(help="Also check that it speaks of a record (from `prove`).")] = None,
    steps: Annotated[Path | None, typer.Option(help="Also check a step ledger (from `runs steps --json`).")] = None,
    as_json: AsJson = False,
) -> None:
    """Check signature, every claim, and that the claims agree; exit code 1 names the field that does not hold.

    Nothing is asked of the service unless `--jwks` names a URL.
    """
    try:
        found = verifying.verify(text_of(file), keys_at(jwks), issuer=issuer)
        claims = found.claims
        record = verifying.check_proof(claims, json_of(proof)).record_id if proof is not None else None
        if steps is not None:
            verifying.check_ledger(claims, json_of(steps))
    except verifying.Rejected as rejected:
        raise Failed(f"{file} does not hold: {rejected}") from None
    shown = {
        "holds": True,
        "kind": claims.kind,
        "verdict": claims.verdict,
        "id": claims.jti,
        "issuer": claims.iss,
        "key": found.kid,
        "run": claims.sub,
        "model": claims.model.name,
        "published_version": claims.published.version if claims.published else None,
        "records": claims.records.count,
        "record_proven": record,
        "statement": claims.statement,
    }
    print_json(shown) if as_json else print_fields(shown)


def _brief(found: dict[str, Any]) -> dict[str, Any]:
    """For people: the statement and the reasons, without the long form."""
    claims = found["claims"]
    shown = {name: value for name, value in found.items() if name not in ("claims", "jws")}
    return {**shown, "statement": claims["statement"], "reasons": "\n".join(claims["verdict_reasons"])}
