"""Tasks: doorbells with an id. They may ring twice, late or never."""

from collections.abc import Callable

from celery import Celery

from core.runs.planning import EXECUTE


def register(app: Celery, execute: Callable[[str | None], bool]) -> None:
    """Make ``app`` answer the doorbell ``runs.execute(run_id)`` with ``execute``."""

    @app.task(name=EXECUTE, ignore_result=True)
    def execute_run(run_id: str) -> None:  # pyright: ignore[reportUnusedFunction]
        execute(run_id)
