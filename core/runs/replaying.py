"""What it takes to do a published run again: its job, and the records as they were chosen then.

A run keeps a digest of its selection and when it was made. The selection itself is rebuilt: the forget set from the
run's records, the other sets from every record of the data set less those that deletion requests kept out at that
moment, by the requests' timelines. If the digests then differ, the run is not replayed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from core.datasets.editions import Editions, FilesPurged
from core.datasets.repository import Records
from core.datasets.selection import set_digests
from core.deletions.repository import Requests
from core.platform.errors import Conflict
from core.registry.lifecycle import VersionState
from core.registry.repository import Models, Versions
from core.registry.tables import ModelVersion
from core.runs.lifecycle import Mode
from core.runs.preparing import job_of
from core.runs.repository import Runs
from core.runs.tables import Run
from core.unlearning.job import SELECTION_FILE, Job, StoredFile


class NotReplayable(Conflict):
    """The run cannot be done again; the message says why."""

    code = "not_replayable"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A job that does a run again on the CPU, what it published, and on what it ran (``Run.worker``)."""

    workspace_id: str
    job: Job
    published: tuple[StoredFile, ...]
    worker: Mapping[str, Any]


def rebuild(tx: Session, *, run_id: str, folder: Path, at: datetime) -> Rebuilt:
    """Write ``selection.parquet`` into ``folder`` as it was for the run, and give the job. Reads only.

    Refused when the run has published nothing or keeps no selection, when its base version has been purged, when the
    records that it forgot may no longer be read (``recheck_days`` of its policy, from its end), and when the selection
    cannot be rebuilt. Raises ``RunNotFound`` and ``NotReplayable``.
    """
    run = Runs(tx).get(run_id)
    if run.mode != Mode.UNLEARN or run.published_version is None:
        raise NotReplayable(f"{run_id} has published nothing to compare with.")
    if run.selection is None:
        raise NotReplayable(f"{run_id} is older than replays: it keeps no digest of its records.")
    _check_lawful(run, at)
    model, versions = Models(tx).get(run.model_id), Versions(tx)
    base = _unpurged(versions.resolve(model.id, str(run.base_version)), model.name)
    forget = Runs(tx).records(run.id)
    chosen_at = datetime.fromisoformat(run.selection["at"])
    kept_out = Requests(tx).kept_out(model.dataset_id, at=chosen_at)
    Editions(tx).pin(model.dataset_id)
    _write_selection(tx, run, model.dataset_id, forget, kept_out, folder / SELECTION_FILE)
    worker = run.worker or {}
    try:
        job = job_of(
            tx, run, model, base, publish_uri="", device="cpu", threads=worker.get("threads"), edition=_edition(run)
        )
    except FilesPurged as error:
        raise NotReplayable(f"The data set's files that {run_id} read are gone. {error.detail}") from None
    published = versions.resolve(model.id, str(run.published_version))
    return Rebuilt(run.workspace_id, job, versions.files(published.id), worker)


def _check_lawful(run: Run, at: datetime) -> None:
    """The policy says how long records may be read after they have been forgotten; a policy that does not, forbids."""
    days = int(run.policy.get("recheck_days", 0))
    ended = run.finished_at or at
    if at >= ended + timedelta(days=days):
        raise NotReplayable(
            f"The records of {run.id} may no longer be read: its policy's recheck_days is {days}, and the run ended on "
            f"{ended:%Y-%m-%d}."
        )


def _unpurged(version: ModelVersion, model: str) -> ModelVersion:
    if version.state == VersionState.PURGED:
        raise NotReplayable(f"Version {version.version} of {model}, from which the run began, has been purged.")
    return version


def _edition(run: Run) -> int:
    return int((run.selection or {}).get("edition", 1))


def _write_selection(
    tx: Session, run: Run, dataset_id: str, forget: Sequence[str], kept_out: Sequence[str], path: Path
) -> None:
    Records(tx).rewrite_selection(dataset_id, forget, kept_out, path, edition=_edition(run))
    kept = run.selection or {}
    differing = [kind for kind, digest in set_digests(path).items() if kept.get(kind) != digest]
    if differing:
        raise NotReplayable(
            f"The records of {run.id} cannot be chosen as they were then: the {' and '.join(differing)} set differs."
        )
