"""``unlearn audit``: take the audit log out, and verify it offline."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cli.client import DEFAULT_URL, AsJson, Key, Url, connect
from cli.files import keys_at
from cli.output import Failed, console, print_fields, print_json
from core.access import audit_export
from core.access.audit_export import BrokenLog, Head
from core.certificates import audit_checkpoint

app = typer.Typer(no_args_is_help=True, help="The audit log: who did what, as a file that shows every change.")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to write it.")], url: Url = DEFAULT_URL, key: Key = None
) -> None:
    """The whole log of the key's workspace, a line of JSON each, with a signed checkpoint at the end."""
    with connect(url, key) as api:
        api.download("/v1/audit-events/export", file)
    console.print(f"{file}: written; check it with: unlearn audit verify", markup=False)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="An exported log.")],
    jwks: Annotated[str, typer.Option(help="The service's public keys: a file, or the URL of its jwks.json.")],
    earlier: Annotated[Path | None, typer.Option(help="An older export, which must be the beginning of it.")] = None,
    issuer: Annotated[str | None, typer.Option(help="Who must have signed it, for example https://….")] = None,
    as_json: AsJson = False,
) -> None:
    """Check every line, their chain and the signed end; exit code 1 names the first line that is wrong.

    Nothing is asked of the service unless `--jwks` names a URL.
    """
    opened = audit_checkpoint.opener(keys_at(jwks))
    before = _verified(earlier, opened, None, issuer) if earlier is not None else None
    head = _verified(file, opened, before, issuer)
    shown = {"holds": True, "workspace_id": head.workspace_id, "lines": head.sequence, "hash": head.hash}
    print_json(shown) if as_json else print_fields(shown)


def _verified(path: Path, opened: Callable[[str], bytes], earlier: Head | None, issuer: str | None) -> Head:
    try:
        with path.open(newline="\n", encoding="utf-8", errors="surrogateescape") as lines:
            return audit_export.verify(lines, opened, earlier=earlier, issuer=issuer)
    except OSError as error:
        raise Failed(f"cannot read {path}: {error.strerror}") from None
    except BrokenLog as broken:
        raise Failed(f"{path} does not hold: {broken}") from None
