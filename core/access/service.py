"""Workspaces and API keys: making, showing once, revoking, and recognising them."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from sqlalchemy.orm import Session

from core.access import audit
from core.access.principal import Mode, Principal, check_scopes
from core.access.repository import ApiKeys, Workspaces
from core.access.sandboxes import SUFFIX, is_sandbox
from core.access.tables import ApiKey, Workspace
from core.platform.database import Columns
from core.platform.errors import AlreadyExists, DomainError, InvalidInput, NotFound, Problem
from core.platform.ids import new_id
from core.platform.paging import Page, Slice

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_SECRET_BYTES: Final = 32
_KEY_ID: Final = re.compile(r"key_[0-9a-z]{1,64}")
_TEXT: Final = re.compile(r"unl_(live|test)_(?P<part>[0-9a-z]{26})_(?P<secret>[A-Za-z0-9_-]{43})")


class Unauthenticated(DomainError):
    """No credential came with the call, or it is not one that we know, or it has expired or been revoked."""

    code = "unauthenticated"


class WorkspaceNotFound(NotFound):
    """There is no workspace of that name."""

    code = "workspace_not_found"


class WorkspaceExists(AlreadyExists):
    """A workspace of that name exists already."""

    code = "workspace_exists"


class ApiKeyNotFound(NotFound):
    """There is no such API key in the workspace."""

    code = "api_key_not_found"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. ``secret`` is the whole text that a caller sends, and is kept nowhere."""

    key: ApiKey
    secret: str


@dataclass(frozen=True, slots=True)
class Credential:
    """What a caller sent to prove who it is."""

    key_id: str
    secret: str

    @classmethod
    def of_text(cls, text: str) -> "Credential":
        """From a whole key. Raises ``Unauthenticated`` when it does not look like one."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise Unauthenticated("The credential is not a key of this service.")
        return cls(f"key_{match['part']}", text)

    @classmethod
    def of_pair(cls, key_id: str, secret: str) -> "Credential":
        """From user name and password: key id and key, or key id and the key's last part.

        Raises ``Unauthenticated`` when the first is no key id: the database could not even look for some texts.
        """
        if not _KEY_ID.fullmatch(key_id):
            raise Unauthenticated("The credential is not valid.")
        return cls(key_id, secret)


def create_workspace(tx: Session, *, name: str, actor: str, at: datetime) -> Workspace:
    """A new workspace. Raises ``InvalidInput`` for a bad name and ``WorkspaceExists`` for a taken one."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "The name is not acceptable.", [Problem("/name", "bad_name", "Use a-z, 0-9, '.', '_', '-'.")]
        )
    workspace = Workspace(id=new_id("ws"), name=name, created_at=at)
    if not Workspaces(tx).add(workspace):
        raise WorkspaceExists("A workspace of that name exists already.")
    audit.note(
        tx,
        workspace_id=workspace.id,
        actor=actor,
        action="workspace.created",
        object_id=workspace.id,
        details={"name": name},
        at=at,
    )
    return workspace


def workspace_named(tx: Session, name: str) -> Workspace:
    """The workspace of that name. Raises ``WorkspaceNotFound``."""
    workspace = Workspaces(tx).named(name)
    if workspace is None:
        raise WorkspaceNotFound("There is no workspace of that name.")
    return workspace


def create_key(
    tx: Session,
    *,
    workspace_id: str,
    name: str,
    scopes: Iterable[str],
    mode: Mode,
    actor: str,
    at: datetime,
    expires_at: datetime | None = None,
) -> NewKey:
    """A new key; its text is in the answer and nowhere else.

    Raises ``InvalidInput`` for scopes that do not exist, an end in the past, or a live key of a sandbox.
    """
    if mode == "live" and is_sandbox(workspace_id):
        raise InvalidInput("A sandbox has test keys only.", [Problem("/mode", "test_only", "Ask for a test key.")])
    if expires_at is not None and expires_at <= at:
        raise InvalidInput("The key would have expired.", [Problem("/expires_at", "in_the_past", "Name a later time.")])
    granted = check_scopes(scopes)
    key_id = new_id("key")
    secret = f"unl_{mode}_{key_id.removeprefix('key_')}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    key = ApiKey(
        id=key_id,
        workspace_id=workspace_id,
        name=name,
        mode=mode,
        scopes=list(granted),
        secret_digest=_digest(secret),
        created_at=at,
        expires_at=expires_at,
    )
    ApiKeys(tx).add(key)
    audit.note(
        tx,
        workspace_id=workspace_id,
        actor=actor,
        action="api_key.created",
        object_id=key_id,
        details={"scopes": list(granted), "mode": mode},
        at=at,
    )
    return NewKey(key, secret)


def grant(*, caller: Principal, scopes: Iterable[str]) -> tuple[str, ...]:
    """The scopes, if ``caller`` may hand them on: nobody makes a key that may do more than its own.

    Raises ``MissingScope`` or ``InvalidInput``.
    """
    wanted = check_scopes(scopes)
    for scope in wanted:
        caller.need(scope)
    return wanted


def revoke(tx: Session, *, workspace_id: str, key_id: str, actor: str, at: datetime) -> ApiKey:
    """End the key at once; again is no error. Raises ``ApiKeyNotFound``."""
    key = ApiKeys(tx).of_workspace(workspace_id, key_id)
    if key is None:
        raise ApiKeyNotFound("There is no such API key.")
    if key.revoked_at is None:
        key.revoked_at = at
        tx.flush()
        audit.note(
            tx, workspace_id=workspace_id, actor=actor, action="api_key.revoked", object_id=key_id, details={}, at=at
        )
    return key


def list_keys(tx: Session, *, workspace_id: str, page: Page) -> Slice[ApiKey]:
    """The workspace's keys, newest first, with the revoked ones."""
    return ApiKeys(tx).page(workspace_id, page)


def authenticate(tx: Session, credential: Credential, *, at: datetime) -> Principal:
    """Whose credential it is. Raises ``Unauthenticated`` without telling which part was wrong.

    A test key acts in the sandbox of its workspace, which is made with its first use.
    """
    return _principal(tx, credential.key_id, lambda key: _matches(key, credential.secret), at)


def acting_for(tx: Session, key_id: str, *, at: datetime) -> Principal:
    """As ``authenticate``, for a caller who has proved in another way to act for the key."""
    return _principal(tx, key_id, lambda _: True, at)


def _principal(tx: Session, key_id: str, proven: Callable[[Columns], bool], at: datetime) -> Principal:
    key = ApiKeys(tx).with_workspace(key_id)
    if key is None or not proven(key) or _ended(key, at):
        raise Unauthenticated("The credential is not valid.")
    ApiKeys(tx).touch(key, at)
    acts_in, workspace = key.workspace_id, key.workspace
    if key.mode == "test" and not is_sandbox(acts_in):
        sandbox = _sandbox(tx, acts_in, workspace, at)
        acts_in, workspace = sandbox.id, sandbox.name
    return Principal(acts_in, workspace, key.id, frozenset(key.scopes), cast(Mode, key.mode))


def _sandbox(tx: Session, owner_id: str, owner: str, at: datetime) -> Workspace:
    workspaces = Workspaces(tx)
    found = workspaces.sandbox_of(owner_id)
    if found is not None:
        return found
    made = Workspace(id=new_id("wst"), name=f"{owner}{SUFFIX}", test_of=owner_id, created_at=at)
    if workspaces.add_sandbox(made):
        audit.note(
            tx, workspace_id=made.id, actor="system", action="workspace.created", object_id=made.id,
            details={"name": made.name, "test_of": owner_id}, at=at,
        )  # fmt: skip
        return made
    return _sandbox(tx, owner_id, owner, at)


def _matches(key: Columns, secret: str) -> bool:
    whole = secret if secret.startswith("unl_") else f"unl_{key.mode}_{key.id.removeprefix('key_')}_{secret}"
    return hmac.compare_digest(_digest(whole), key.secret_digest)


def _ended(key: Columns, at: datetime) -> bool:
    return key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= at)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
