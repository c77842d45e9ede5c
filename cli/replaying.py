"""``unlearn runs replay``: do published runs again and compare, directly on database and object store."""

import random
import secrets
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from cli import environment
from cli.database import opened
from cli.output import Failed, print_json, print_rows, stderr
from core.access import audit
from core.access.service import workspace_named
from core.platform.clock import utc_now
from core.platform.objects import open_store
from core.platform.settings import Settings
from core.platform.version import code
from core.platform.workfolder import work_folder
from core.runs.replaying import NotReplayable, rebuild
from core.runs.repository import Runs
from worker.replaying import replay as carry_out

_COLUMNS: Final = ("run_id", "result", "distance", "differs", "why")


def replay(
    run_id: Annotated[str | None, typer.Argument(help="A run that has published a version.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Draw this many published runs at random instead.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draw; printed, so that it can be repeated.")] = None,
    workspace: Annotated[str | None, typer.Option(help="Draw from this workspace alone.")] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="For runs of other machines, as a share of what moved.")
    ] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Do a published run again on this machine's CPU, from base version, records and seed, and compare the weights.

    On the same kind of machine the files must be identical; a run of another device or version is compared within
    `--tolerance`. Exit code 1 when weights differ. For operators: it works on the database and the object store, and
    is noted in the audit log.
    """
    if (run_id is None) == (sample is None):
        raise Failed("name a run, or draw some with --sample")
    settings = environment.resolved()
    chosen = [run_id] if run_id is not None else _drawn(settings, sample or 0, seed, workspace)
    rows = [_replayed(settings, one, tolerance) for one in chosen]
    print_json(rows) if as_json else print_rows(rows, _COLUMNS)
    if any(row["result"] == "different" for row in rows):
        raise Failed("weights differ from what was published")
    if run_id is not None and rows[0]["result"] == "refused":
        raise Failed("the run was not replayed")


def _drawn(settings: Settings, size: int, seed: int | None, workspace: str | None) -> list[str]:
    with opened(settings) as tx:
        found = Runs(tx).published_ids(workspace_named(tx, workspace).id if workspace else None)
    seed = secrets.randbelow(2**31) if seed is None else seed
    stderr.print(f"{min(size, len(found))} of {len(found)} published runs, drawn with --seed {seed}")
    return sorted(random.Random(seed).sample(list(found), min(size, len(found))))  # noqa: S311  # auditable, no secret


def _replayed(settings: Settings, run_id: str, tolerance: float) -> dict[str, Any]:
    try:
        with work_folder(settings.worker.work_dir) as folder:
            with opened(settings) as tx:
                rebuilt = rebuild(tx, run_id=run_id, folder=folder, at=utc_now())
            found = carry_out(rebuilt, open_store(settings), folder, code(settings.commit), tolerance=tolerance)
    except NotReplayable as refused:
        return {"run_id": run_id, "result": "refused", "distance": None, "differs": [], "why": refused.detail}
    row = {**asdict(found), "differs": list(found.differs), "why": None}
    with opened(settings) as tx:
        audit.note(
            tx,
            workspace_id=rebuilt.workspace_id,
            actor="cli",
            action="run.replayed",
            object_id=run_id,
            details={"result": found.result},
            at=utc_now(),
        )
    return row
