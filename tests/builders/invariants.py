"""What must hold whatever has been killed, cut off or restarted: read from the database, the store and a receiver.

Each function below names what is broken in one respect, in words; ``violations`` asks all of them. They are about a
service at rest: every request has ended, everything sent.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from core.access import audit
from core.access.tables import Workspace
from core.certificates.tables import Certificate
from core.datasets.tables import Record
from core.deletions import lifecycle as request_states
from core.deletions.tables import DeletionEvent, DeletionRecord, DeletionRequest, DeletionTarget
from core.platform.objects import ObjectStore
from core.platform.objects.transfer import MANIFEST, stored_digest
from core.platform.outbox import OutboxRow
from core.registry.lifecycle import VersionState
from core.registry.repository import LATEST
from core.registry.tables import Model, ModelAlias, ModelFile, ModelVersion
from core.runs import lifecycle as run_states
from core.runs.preparing import MODELS
from core.runs.tables import Run, RunEvent, RunStep
from core.webhooks.tables import WebhookDelivery, WebhookMessage

_ENDED = {*request_states.FINAL, request_states.Status.NEEDS_REVIEW}
"""What nothing more happens to by itself."""


@dataclass(frozen=True)
class Expected:
    """What only the callers know. ``accepted``: ids of requests that were answered with 202."""

    accepted: Collection[str] = ()
    originals: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of each model (by id) the SHA-256 of every file as it was uploaded, by path."""
    received: Sequence[tuple[Mapping[str, str], bytes]] = ()
    """Headers and bodies that arrived at the webhook receiver."""


def violations(tx: Session, store: ObjectStore, expected: Expected, *, swept: bool = False) -> list[str]:
    """Every way in which the service broke its word. swept: the sweeper has been through since the last fault."""
    return [
        *requests_that_did_not_end(tx, expected.accepted),
        *records_in_the_wrong_state(tx),
        *runs_left_open(tx),
        *wrong_numbers_of_versions(tx),
        *gaps(tx),
        *wrong_aliases(tx),
        *damaged_files(tx, store),
        *altered_originals(tx, expected.originals),
        *broken_timelines(tx),
        *incomplete_ledgers(tx),
        *missing_certificates(tx),
        *lost_messages(tx),
        *undelivered_webhooks(tx, expected.received),
        *repeated_messages(tx),
        *broken_audit_chains(tx),
        *(orphans(tx, store) if swept else ()),
    ]


def requests_that_did_not_end(tx: Session, accepted: Collection[str]) -> Iterator[str]:
    """Every accepted request is there and has ended, and so has every target of it."""
    status = dict(tx.execute(select(DeletionRequest.id, DeletionRequest.status)).all())
    yield from (f"request {one} was accepted and is not there" for one in sorted(set(accepted) - status.keys()))
    yield from (f"request {one} is {state}" for one, state in status.items() if state not in _ENDED)
    targets = select(DeletionTarget.request_id, DeletionTarget.status)
    for one, state in tx.execute(targets):
        if state not in _ENDED and status[one] in request_states.FINAL:
            yield f"request {one} has ended and a target of it is {state}"


def records_in_the_wrong_state(tx: Session) -> Iterator[str]:
    """A completed request has erased its records; nobody else's are erased."""
    completed = select(DeletionRecord.dataset_id, DeletionRecord.record_id).join(
        DeletionRequest, DeletionRequest.id == DeletionRecord.request_id
    )
    wanted = set(tx.execute(completed.where(DeletionRequest.status == request_states.Status.COMPLETED)).all())
    erased = set(tx.execute(select(Record.dataset_id, Record.record_id).where(Record.state == "erased")).all())
    yield from (f"record {record} is not erased" for _, record in sorted(wanted - erased))
    yield from (f"record {record} is erased and nobody's request is completed" for _, record in sorted(erased - wanted))


def runs_left_open(tx: Session) -> Iterator[str]:
    """No run is at work, and none that has ended keeps a lease or the key of its checkpoints."""
    for run in tx.scalars(select(Run)):
        if run.status in run_states.ACTIVE:
            yield f"run {run.id} is {run.status}"
        if run.lease_token is not None or run.lease_until is not None:
            yield f"run {run.id} is {run.status} and leased"
        if run.status not in run_states.ACTIVE and run.checkpoint_key is not None:
            yield f"run {run.id} has ended and its checkpoints can be read"


def wrong_numbers_of_versions(tx: Session) -> Iterator[str]:
    """A run that succeeded has published one version, which it names; any other has published none."""
    versions: dict[str | None, list[int]] = defaultdict(list)
    for run_id, number in tx.execute(select(ModelVersion.run_id, ModelVersion.version)):
        versions[run_id].append(number)
    for run in tx.scalars(select(Run).where(Run.mode == run_states.Mode.UNLEARN)):
        wanted = [run.published_version] if run.status == run_states.Status.SUCCEEDED else []
        if versions[run.id] != wanted:
            yield f"run {run.id} is {run.status} and has published the versions {versions[run.id]}, not {wanted}"


def gaps(tx: Session) -> Iterator[str]:
    """The versions of a model are numbered 1, 2, 3 … and each has the one before it as its parent."""
    for model_id, versions in _versions(tx).items():
        numbers = [version.version for version in versions]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"model {model_id} has the versions {numbers}"
        for before, version in pairwise(versions):
            if version.run_id is not None and version.parent_version != before.version:
                yield f"version {version.version} of model {model_id} has the parent {version.parent_version}"


def wrong_aliases(tx: Session) -> Iterator[str]:
    """``latest`` is the newest version, which alone of a run's versions is active; every alias leads somewhere."""
    versions = _versions(tx)
    for row in tx.scalars(select(ModelAlias)):
        numbers = [version.version for version in versions.get(row.model_id, ())]
        if row.version not in numbers or (row.alias == LATEST and row.version != numbers[-1]):
            yield f"alias {row.alias} of model {row.model_id} leads to {row.version} of {numbers}"
    for model_id, found in versions.items():
        active = [version.version for version in found if version.state == VersionState.ACTIVE]
        if active != [found[-1].version]:
            yield f"of model {model_id} the versions {active} are active"


def damaged_files(tx: Session, store: ObjectStore) -> Iterator[str]:
    """Every file of every version lies in the store as it was recorded, and belongs to that version alone."""
    owners: Counter[str] = Counter()
    for file in tx.scalars(select(ModelFile)):
        owners[file.uri] += 1
        try:
            if stored_digest(store, file.uri) != (file.size_bytes, file.sha256):
                yield f"{file.uri} is not as it was published"
        except FileNotFoundError:
            yield f"{file.uri} is missing"
    yield from (f"{uri} belongs to {count} versions" for uri, count in owners.items() if count > 1)


def altered_originals(tx: Session, originals: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """The first version of a model is what was uploaded."""
    for model_id, wanted in originals.items():
        of_first = (ModelVersion.model_id == model_id) & (ModelVersion.version == 1)
        rows = select(ModelFile.path, ModelFile.sha256).join(ModelVersion, ModelVersion.id == ModelFile.version_id)
        if dict(tx.execute(rows.where(of_first)).all()) != dict(wanted):
            yield f"the first version of model {model_id} is not what was uploaded"


def broken_timelines(tx: Session) -> Iterator[str]:
    """Events are numbered without a gap, follow the allowed moves, and end where the row stands."""
    for run_id, status, mode in tx.execute(select(Run.id, Run.status, Run.mode)):
        moves = run_states.MOVES if mode == run_states.Mode.UNLEARN else run_states.ASSESSMENT_MOVES
        yield from _broken(f"run {run_id}", _timeline(tx, RunEvent, RunEvent.run_id == run_id), status, moves)
    for request_id, status in tx.execute(select(DeletionRequest.id, DeletionRequest.status)):
        found = _timeline(tx, DeletionEvent, DeletionEvent.request_id == request_id)
        yield from _broken(f"request {request_id}", found, status, request_states.MOVES)


def incomplete_ledgers(tx: Session) -> Iterator[str]:
    """The last attempt of a run that succeeded has every step of its ledger once."""
    last = RunStep.attempt == Run.attempt
    found = select(RunStep.run_id, func.array_agg(RunStep.step)).join(Run, (Run.id == RunStep.run_id) & last)
    done = found.where(Run.status == run_states.Status.SUCCEEDED, Run.mode == run_states.Mode.UNLEARN)
    for run_id, steps in tx.execute(done.group_by(RunStep.run_id)):
        if sorted(steps) != list(range(1, len(steps) + 1)):
            yield f"the ledger of run {run_id} has the steps {sorted(steps)}"


def missing_certificates(tx: Session) -> Iterator[str]:
    """Every run that has succeeded or failed has one certificate or report."""
    ended = Run.status.in_((run_states.Status.SUCCEEDED, run_states.Status.FAILED))
    wanted = set(tx.scalars(select(Run.id).where(ended, Run.mode == run_states.Mode.UNLEARN)))
    found = Counter(tx.scalars(select(Certificate.run_id)))
    yield from (f"run {run_id} has {found[run_id]} certificates" for run_id in sorted(wanted) if found[run_id] != 1)


def lost_messages(tx: Session) -> Iterator[str]:
    """Nothing waits in the outbox."""
    for name, count in tx.execute(
        select(OutboxRow.name, func.count()).where(OutboxRow.sent_at.is_(None)).group_by(OutboxRow.name)
    ):
        yield f"{count} messages {name} wait in the outbox"


def undelivered_webhooks(tx: Session, received: Sequence[tuple[Mapping[str, str], bytes]]) -> Iterator[str]:
    """Every message has arrived at least once, always with its own id and the same bytes."""
    arrived: dict[str, set[bytes]] = defaultdict(set)
    for headers, body in received:
        arrived[headers["webhook-id"]].add(body)
    rows = select(WebhookDelivery, WebhookMessage).join(WebhookMessage, WebhookMessage.id == WebhookDelivery.message_id)
    for delivery, message in tx.execute(rows):
        if delivery.status != "delivered" or not arrived[message.id]:
            yield f"message {message.id} ({message.type}) is {delivery.status} after {delivery.attempts} attempts"
        elif arrived[message.id] != {bytes(message.body)}:
            yield f"message {message.id} ({message.type}) arrived with other bytes"


def repeated_messages(tx: Session) -> Iterator[str]:
    """An event has one message, and so one id, however often it was relayed."""
    told: Counter[str] = Counter()
    for body in tx.scalars(select(WebhookMessage.body)):
        content = json.loads(body)
        told[json.dumps({name: content[name] for name in ("type", "data")}, sort_keys=True)] += 1
    yield from (f"{count} messages say {what}" for what, count in told.items() if count > 1)


def broken_audit_chains(tx: Session) -> Iterator[str]:
    """The audit log of every workspace is whole."""
    for workspace_id in tx.scalars(select(Workspace.id)).all():
        line = audit.first_broken_line(tx, workspace_id)
        if line is not None:
            yield f"the audit log of workspace {workspace_id} breaks at line {line}"


def orphans(tx: Session, store: ObjectStore) -> Iterator[str]:
    """Among the models' files lies nothing that belongs to no version, nor to a result that waits for a person."""
    known = set(tx.scalars(select(ModelFile.uri)))
    folders = set(tx.scalars(select(ModelVersion.uri)))
    for staged in tx.scalars(select(Run.staged)):
        known |= {file["uri"] for file in staged}
        folders |= {file["uri"].rsplit("/", 1)[0] + "/" for file in staged}
    manifests = {f"{folder}{MANIFEST}" for folder in folders}
    for info in store.list(store.uri(MODELS)):
        if info.uri not in known | manifests:
            yield f"{info.uri} belongs to no version"


def _versions(tx: Session) -> Mapping[str, list[ModelVersion]]:
    found: dict[str, list[ModelVersion]] = {model_id: [] for model_id in tx.scalars(select(Model.id))}
    for version in tx.scalars(select(ModelVersion).order_by(ModelVersion.version)):
        found[version.model_id].append(version)
    return {model_id: versions for model_id, versions in found.items() if versions}


def _timeline(
    tx: Session, table: type[RunEvent] | type[DeletionEvent], which: ColumnElement[bool]
) -> Sequence[tuple[int, str]]:
    return [(row.sequence, row.status) for row in tx.scalars(select(table).where(which).order_by(table.sequence))]


def _broken(
    what: str, events: Sequence[tuple[int, str]], status: str, moves: Mapping[str, Collection[str]]
) -> Iterable[str]:
    if [number for number, _ in events] != list(range(1, len(events) + 1)):
        yield f"the timeline of {what} has the numbers {[number for number, _ in events]}"
    states = [state for _, state in events]
    for before, after in pairwise(states):
        if before != after and after not in moves[before]:
            yield f"{what} went from {before} to {after}"
    if states[-1:] != [status]:
        yield f"{what} is {status} and its timeline ends in {states[-1:]}"
