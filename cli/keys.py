"""``unlearn keys``: workspaces and their API keys, directly on the database: a first key comes from nowhere else."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from sqlalchemy.orm import Session

from cli import environment
from cli.database import opened
from cli.output import Failed, console, print_json, print_rows, stderr
from cli.secrets import rotate_secret
from core.access import service
from core.access.tables import ApiKey
from core.certificates import keys as signing_keys
from core.certificates.tables import SigningKey
from core.platform.clock import rfc3339, utc_now
from core.platform.paging import MAX_LIMIT, Page
from core.platform.secrets import Keyring

app = typer.Typer(no_args_is_help=True, help="Workspaces and API keys, directly on the database.")

Workspace = Annotated[str, typer.Option("--workspace", help="Name of the workspace.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

_ACTOR: Final = "cli"


@app.command()
def create(
    workspace: Workspace,
    scopes: Annotated[str, typer.Option(help="Comma-separated, for example deletions:write,runs:read or '*'.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "cli",
    test: Annotated[bool, typer.Option("--test", help="A key of test mode.")] = False,
    expires: Annotated[datetime | None, typer.Option(help="When it ends (UTC); default: never.")] = None,
    as_json: Json = False,
) -> None:
    """Make an API key, and its workspace if there is none of that name. The key is shown this once."""
    at = utc_now()
    with opened(environment.resolved()) as tx:
        owner = _workspace(tx, workspace, at)
        made = service.create_key(
            tx,
            workspace_id=owner,
            name=name,
            scopes=[scope.strip() for scope in scopes.split(",") if scope.strip()],
            mode="test" if test else "live",
            actor=_ACTOR,
            at=at,
            expires_at=expires.replace(tzinfo=UTC) if expires else None,
        )
        shown = {**_described(made.key), "workspace": workspace, "key": made.secret}
    if as_json:
        print_json(shown)
    else:
        stderr.print(f"Key {shown['id']} of {workspace}; it is shown this once:")
        console.out(made.secret, highlight=False)


@app.command("list")
def list_(workspace: Workspace, as_json: Json = False) -> None:
    """The keys of a workspace, the revoked ones too; never their text."""
    with opened(environment.resolved()) as tx:
        owner = service.workspace_named(tx, workspace).id
        rows = [_described(key) for key in _all(tx, owner)]
    print_json(rows) if as_json else print_rows(rows, ("id", "name", "mode", "scopes", "last_used_at", "revoked_at"))


@app.command()
def revoke(key_id: str, workspace: Workspace, as_json: Json = False) -> None:
    """End a key at once."""
    with opened(environment.resolved()) as tx:
        owner = service.workspace_named(tx, workspace).id
        row = _described(service.revoke(tx, workspace_id=owner, key_id=key_id, actor=_ACTOR, at=utc_now()))
    print_json(row) if as_json else console.print(f"{key_id} is revoked.")


@app.command()
def rotate_signing(as_json: Json = False) -> None:
    """Sign certificates with a fresh key from now on; what the old one has signed stays verifiable."""
    settings = environment.resolved()
    assert settings.secret is not None  # noqa: S101  # resolved
    keyring = Keyring.of(settings)
    with opened(settings) as tx:
        made = signing_keys.rotate(tx, keyring, at=utc_now())
        rows = [_signing(key) for key in signing_keys.listed(tx)]
    print_json(rows) if as_json else console.print(f"{made.kid} signs from now on; {len(rows) - 1} retired.")


@app.command()
def list_signing(as_json: Json = False) -> None:
    """The keys that sign certificates, the retired ones too."""
    with opened(environment.resolved()) as tx:
        rows = [_signing(key) for key in signing_keys.listed(tx)]
    print_json(rows) if as_json else print_rows(rows, ("kid", "created_at", "retired_at"))


app.command()(rotate_secret)


def _signing(key: SigningKey) -> dict[str, Any]:
    retired = rfc3339(key.retired_at) if key.retired_at else None
    return {"kid": key.kid, "created_at": rfc3339(key.created_at), "retired_at": retired, "public": key.public}


def _workspace(tx: Session, name: str, at: datetime) -> str:
    try:
        return service.workspace_named(tx, name).id
    except service.WorkspaceNotFound:
        pass
    try:
        return service.create_workspace(tx, name=name, actor=_ACTOR, at=at).id
    except service.WorkspaceExists:
        raise Failed(f"the workspace {name} was made by somebody else just now; try again") from None


def _all(tx: Session, workspace_id: str) -> Iterator[ApiKey]:
    page = Page(limit=MAX_LIMIT)
    while True:
        found = service.list_keys(tx, workspace_id=workspace_id, page=page)
        yield from found.data
        if not found.has_more:
            return
        page = Page(limit=MAX_LIMIT, after=(found.data[-1].created_at, found.data[-1].id))


def _described(key: ApiKey) -> dict[str, Any]:
    times = {"created_at": key.created_at, "expires_at": key.expires_at, "revoked_at": key.revoked_at}
    times["last_used_at"] = key.last_used_at
    shown = {name: rfc3339(at) if at else None for name, at in times.items()}
    return {"id": key.id, "name": key.name, "mode": key.mode, "scopes": list(key.scopes), **shown}
