"""Setting and looking up policies."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from core.access import audit
from core.platform.database import Columns
from core.platform.errors import InvalidInput, NotFound, Problem
from core.platform.ids import new_id
from core.platform.paging import Page, Slice
from core.policies.body import Policy, as_json, from_json
from core.policies.repository import Policies
from core.policies.tables import PolicyRow

DEFAULT: Final = "default"
"""The built-in policy's name. A workspace may put its own under it."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class PolicyNotFound(NotFound):
    """There is no policy of that name in the workspace."""

    code = "policy_not_found"


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """A policy as it stands. ``version`` 0 and no time: the built-in one."""

    name: str
    version: int
    policy: Policy
    created_at: datetime | None


BUILT_IN: Final = PolicyVersion(DEFAULT, 0, Policy(), None)


def put(
    tx: Session, *, workspace_id: str, name: str, body: Mapping[str, Any], actor: str, at: datetime
) -> PolicyVersion:
    """Store a new version under ``name``; what ``body`` leaves out is the default. Raises ``InvalidInput``."""
    if not _NAME.fullmatch(name):
        raise InvalidInput("The name is not acceptable.", [Problem("", "bad_name", "Use a-z, 0-9, '.', '_', '-'.")])
    policy = from_json(body)
    policies = Policies(tx)
    policies.lock(workspace_id, name)
    before = policies.current(workspace_id, name)
    row = PolicyRow(
        id=new_id("pol"),
        workspace_id=workspace_id,
        name=name,
        version=before.version + 1 if before else 1,
        body=as_json(policy),
        created_at=at,
    )
    policies.add(row)
    audit.note(
        tx,
        workspace_id=workspace_id,
        actor=actor,
        action="policy.changed",
        object_id=row.id,
        details={"name": name, "version": row.version},
        at=at,
    )
    return _shown(row)


def get(tx: Session, *, workspace_id: str, name: str) -> PolicyVersion:
    """The current version of ``name``. Raises ``PolicyNotFound``."""
    row = Policies(tx).current(workspace_id, name)
    if row is not None:
        return _shown(row)
    if name == DEFAULT:
        return BUILT_IN
    raise PolicyNotFound("There is no policy of that name.")


def effective(tx: Session, workspace_id: str, name: str | None) -> tuple[str, Policy]:
    """Name and content of the policy that applies: the named one, or ``default``. Raises ``PolicyNotFound``."""
    found = get(tx, workspace_id=workspace_id, name=name or DEFAULT)
    return found.name, found.policy


def list_policies(tx: Session, *, workspace_id: str, page: Page) -> Slice[PolicyVersion]:
    """Current versions, latest change first. The built-in default ends the last page unless it has been replaced."""
    rows = Policies(tx).page(workspace_id, page)
    shown = tuple(_shown(row) for row in rows.data)
    if not rows.has_more and Policies(tx).current(workspace_id, DEFAULT) is None:
        shown = (*shown, BUILT_IN)
    return Slice(shown, rows.next_cursor, rows.has_more)


def _shown(row: PolicyRow | Columns) -> PolicyVersion:
    return PolicyVersion(row.name, row.version, from_json(row.body), row.created_at)
