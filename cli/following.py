"""Waiting for a deletion request, a run or an assessment, with a progress bar for people."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cli.client import Api
from cli.output import Failed, stderr

REQUEST_ENDS: Final = frozenset({"completed", "failed", "cancelled", "needs_review"})
ASSESSMENT_ENDS: Final = frozenset({"succeeded", "failed", "cancelled"})
RUN_ENDS: Final = frozenset({"succeeded", "failed", "cancelled", "needs_review"})
DATASET_ENDS: Final = frozenset({"ready", "failed"})
_GLANCE_S: Final = 0.5


def follow_request(
    api: Api, request_id: str, *, limit_s: float | None = None, glance: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """The deletion request once nothing more happens to it by itself; its run's progress is shown meanwhile.

    ``glance`` is called again and again, and may raise. Raises ``Failed`` when the end takes longer than ``limit_s``.
    """
    path = f"/v1/deletion-requests/{request_id}"
    with _bar() as bar:
        task = bar.add_task("queued", total=None)

        def ended() -> dict[str, Any] | None:
            glance()
            request = api.look(path)
            if request["run_ids"]:
                show(bar, task, api.look(f"/v1/runs/{request['run_ids'][-1]}"))
            return request if request["status"] in REQUEST_ENDS else None

        return wait(ended, what=request_id, limit_s=limit_s)


def follow_run(api: Api, run_id: str, *, limit_s: float | None = None) -> dict[str, Any]:
    """The run once it has ended, its progress shown meanwhile. Raises ``Failed`` after ``limit_s``."""
    with _bar() as bar:
        task = bar.add_task("queued", total=None)

        def ended() -> dict[str, Any] | None:
            run = api.look(f"/v1/runs/{run_id}")
            show(bar, task, run)
            return run if run["status"] in RUN_ENDS else None

        return wait(ended, what=run_id, limit_s=limit_s)


def follow_assessment(api: Api, assessment_id: str, *, limit_s: float | None = None) -> dict[str, Any]:
    """The hardness assessment once it has ended, its phase shown meanwhile. Raises ``Failed`` after ``limit_s``."""
    with _bar() as bar:
        task = bar.add_task("queued", total=None)

        def ended() -> dict[str, Any] | None:
            assessment = api.look(f"/v1/hardness-assessments/{assessment_id}")
            show(bar, task, assessment)
            return assessment if assessment["status"] in ASSESSMENT_ENDS else None

        return wait(ended, what=assessment_id, limit_s=limit_s)


def follow_dataset(api: Api, name: str) -> dict[str, Any]:
    """The data set once it is indexed. Raises ``Failed`` with the reason when it cannot be."""

    def ended() -> dict[str, Any] | None:
        dataset = api.look(f"/v1/datasets/{name}")
        return dataset if dataset["status"] in DATASET_ENDS else None

    with stderr.status("indexing"):
        dataset = wait(ended, what=name)
    if dataset["status"] == "failed":
        raise Failed(f"the data set {name} cannot be indexed: {dataset.get('status_detail') or dataset.get('error')}")
    return dataset


def wait(look: Callable[[], dict[str, Any] | None], *, what: str, limit_s: float | None = None) -> dict[str, Any]:
    """The first answer of ``look`` that is not None. Raises ``Failed`` when ``limit_s`` passes before."""
    end = None if limit_s is None else time.monotonic() + limit_s
    while (found := look()) is None:
        if end is not None and time.monotonic() > end:
            raise Failed(f"{what} has not ended after {limit_s:.0f} s")
        time.sleep(_GLANCE_S)
    return found


def show(bar: Progress, task: TaskID, run: Mapping[str, Any]) -> None:
    """Put a run's phase and step on the bar."""
    progress: Mapping[str, Any] = run.get("progress") or {}
    steps = progress.get("max_steps")
    bar.update(task, description=run["status"], total=steps, completed=progress.get("step") or 0)


def _bar() -> Progress:
    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)
