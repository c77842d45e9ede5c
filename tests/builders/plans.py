"""How Postgres means to answer the queries that some code asks."""

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from core.platform.database import transaction


def plans(engine: Engine, ask: Callable[[Session], object]) -> list[dict[str, Any]]:
    """The plans of all queries that ``ask`` makes."""
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        asked.append((statement, parameters[0] if many else parameters))

    event.listen(engine, "before_cursor_execute", note)
    with transaction(engine) as tx:
        ask(tx)
    event.remove(engine, "before_cursor_execute", note)
    found: list[dict[str, Any]] = []
    with engine.connect() as connection:
        for statement, parameters in asked:
            row = connection.exec_driver_sql(f"explain (format json) {statement}", parameters).scalar_one()
            found.append((json.loads(row) if isinstance(row, str) else row)[0]["Plan"])
    return found


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """A plan's node and all below it."""
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]
