"""What a worker needs before it can start: the job and the selection of records, from the database alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import cast

from sqlalchemy.orm import Session

from core.datasets.editions import Editions, stored
from core.datasets.repository import Datasets, Records, SelectionCounts
from core.datasets.selection import set_digests
from core.datasets.tables import SupersededFile
from core.deletions.repository import Requests
from core.platform.database import database_now
from core.platform.errors import Conflict
from core.platform.leases import Lease
from core.policies.body import from_json
from core.registry.repository import LATEST, Models, Versions
from core.registry.tables import Model, ModelVersion
from core.runs.checkpoints import CheckpointRule
from core.runs.lifecycle import Mode
from core.runs.repository import Runs
from core.runs.tables import Run
from core.unlearning.job import JOB_FILE, SELECTION_FILE, Job, Parameters, Task, write_json

MODELS = "models/"
MOST_RECHECKED = 1000
"""How many records that earlier runs forgot a run measures again."""


class NothingToForget(Conflict):
    """The model holds none of the records any more."""

    code = "nothing_to_forget"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job and what its run has to remember of it."""

    job: Job
    base_version: int
    counts: SelectionCounts
    forget_ids: tuple[str, ...]
    selected: Mapping[str, str | int]
    """As ``Run.selection``."""
    checkpoint_key: bytes | None = field(repr=False)
    """Sealed."""


def prepare(
    tx: Session,
    *,
    lease: Lease,
    folder: Path,
    uri: Callable[[str], str],
    device: str,
    threads: int | None,
    processes: int | None = None,
    memory_bytes: int | None = None,
    rule: CheckpointRule | None = None,
) -> Prepared:
    """Write ``job.json`` and ``selection.parquet`` into ``folder`` for the run under the lease.

    The run will start from the version that is the latest now. ``uri`` gives the object store's URI of a key. Reads
    only, and holds back nothing but a switch of the data set's files: a large selection takes its time while the lease
    is kept alive elsewhere. Raises
    ``NothingToForget``, and other ``DomainError`` when the model or its data set cannot be used.
    """
    run = Runs(tx).get(lease.row_id)
    model = Models(tx).get(run.model_id)
    edition = Editions(tx).pin(model.dataset_id)
    base = Versions(tx).resolve(model.id, LATEST)
    selected_at = database_now(tx)
    policy = from_json(run.policy)
    forget_ids = _forget_ids(tx, run, model)
    days = policy.recheck_days if run.mode == Mode.UNLEARN else 0
    earlier = Runs(tx).forgotten_earlier(model.id, days=days, limit=MOST_RECHECKED)
    superseded = Editions(tx).holding(model.dataset_id, earlier)
    selection = folder / SELECTION_FILE
    counts = Records(tx).write_selection(
        model.dataset_id, forget_ids, selection, earlier=earlier, superseded=superseded
    )
    if counts.forget == 0:
        raise NothingToForget("The model holds none of the records any more.")
    sealed_key = rule.sealed_key(run) if rule else None
    publish_uri = uri(attempt_key(model.name, Versions(tx).highest(model.id) + 1, lease))
    job = replace(
        _spared(
            job_of(
                tx, run, model, base, publish_uri=publish_uri, device=device, threads=threads, superseded=superseded
            ),
            tx,
        ),
        processes=processes,
        memory_bytes=memory_bytes,
        checkpoints=rule.checkpointing(run.id, sealed_key, uri) if rule else None,
    )
    write_json(folder / JOB_FILE, job)
    selected = {"at": selected_at.isoformat(), "edition": edition, **set_digests(folder / SELECTION_FILE)}
    return Prepared(job, base.version, counts, tuple(forget_ids), selected, sealed_key)


def _spared(job: Job, tx: Session) -> Job:
    """With half as many records at a time for each attempt that was killed: most likely the memory was full."""
    for _ in range(Runs(tx).kills(job.run_id)):
        job = job.halved()
    return job


def job_of(
    tx: Session,
    run: Run,
    model: Model,
    base: ModelVersion,
    *,
    publish_uri: str,
    device: str,
    threads: int | None,
    edition: int | None = None,
    superseded: Sequence[SupersededFile] = (),
) -> Job:
    """What a child is told about the run's latest attempt from this base version.

    It reads the data set's files of ``edition`` (None: the present one) and, behind them, ``superseded`` ones. Raises
    ``DatasetNotReady`` and ``FilesPurged``.
    """
    source = Datasets(tx).source(model.dataset_id, edition)
    return Job(
        run_id=run.id,
        attempt=run.attempt,
        mode="assess" if run.mode == "assess" else "unlearn",
        task=cast(Task, model.task),
        model_files=Versions(tx).files(base.id),
        dataset=replace(source, files=(*source.files, *map(stored, superseded))),
        parameters=Parameters(**run.parameters),
        publish_uri=publish_uri,
        device=device,
        threads=threads,
        limits=from_json(run.policy).limits.as_json(),
    )


def _forget_ids(tx: Session, run: Run, model: Model) -> Sequence[str]:
    """What the run is to forget, or would be, less what the model has unlearned meanwhile."""
    requests = Requests(tx)
    if run.mode == Mode.UNLEARN:
        return requests.forget_ids(model.id, requests.of_run(run.id))
    asked = Runs(tx).records(run.id)
    unlearned = requests.unlearned(model.dataset_id, asked, [model.id])
    return [record_id for record_id in asked if record_id not in unlearned]


def keep(tx: Session, *, lease: Lease, prepared: Prepared, at: datetime) -> None:
    """Write to the run from which version it starts, which records it has, and its checkpoints' key.

    Raises ``LeaseLost``.
    """
    runs = Runs(tx)
    run = runs.held(lease)
    if run.base_version != prepared.base_version:
        detail = {"code": "base_superseded", "base": run.base_version, "latest": prepared.base_version}
        runs.add_event(run, "rebased", detail, at)
        run.base_version = prepared.base_version
    run.forget_records, run.retain_records = prepared.counts.forget, prepared.counts.retain
    run.selection = dict(prepared.selected)
    if run.mode == Mode.UNLEARN:
        runs.set_records(run.id, prepared.forget_ids)
    run.checkpoint_key = prepared.checkpoint_key
    run.revision += 1


def attempt_key(model: str, version: int, lease: Lease) -> str:
    """Where an attempt puts its weights: a folder of its own, never written twice. ``sweeping`` reads it back."""
    return f"{MODELS}{model}/v{version}/{lease.row_id}-{lease.attempt}/"
