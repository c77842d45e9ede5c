"""Sandboxes: what test keys act in. Each is a workspace of its own, and its id says so wherever it is written.

So no query asks for a mode: whatever is one workspace's is not the other's. Only what works for all workspaces at once,
planners, workers and certifiers, tells them apart, by ``in_sandbox``.
"""

from typing import Any, Final

from sqlalchemy import ColumnElement, func, literal_column

PREFIX: Final = "wst_"
SUFFIX: Final = ":test"
"""Ends a sandbox's name, after that of the workspace it belongs to. No other name may have a colon."""


def is_sandbox(workspace_id: str) -> bool:
    """Whether the workspace is that of test keys."""
    return workspace_id.startswith(PREFIX)


def in_sandbox(workspace_id: Any) -> ColumnElement[bool]:
    """The same of a column; written out and not bound, so that partial indexes are seen to apply."""
    return func.starts_with(workspace_id, literal_column(f"'{PREFIX}'"))
