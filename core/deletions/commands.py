"""What callers ask of this slice, and what it answers: plain values, no rows and no wire formats."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from core.deletions.tables import DeletionRequest
from core.platform.errors import DomainError


@dataclass(frozen=True, slots=True)
class Identity:
    """Something that identifies a person, as the caller knows it. The value is never stored."""

    type: str
    value: str = field(repr=False)
    hashed: bool = False
    """``value`` is the hex SHA-256 of the normalised value, for callers who do not send the value itself."""


@dataclass(frozen=True, slots=True)
class SubmitDeletion:
    """A deletion request as asked for. ``model`` and ``dataset`` are names; without them everything is searched."""

    model: str | None = None
    dataset: str | None = None
    record_ids: tuple[str, ...] = ()
    subject_ids: tuple[str, ...] = ()
    identities: tuple[Identity, ...] = ()
    reason: str = "unspecified"
    external_id: str | None = None
    regulation: str | None = None
    received_at: datetime | None = None
    due_at: datetime | None = None
    hold_seconds: float = 0
    policy: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ignore_unknown: bool = False
    """Pass over record ids that exist nowhere, for callers who must not learn which do."""


@dataclass(frozen=True, slots=True)
class LookupResult:
    """How many records there are about somebody: not erased yet, and erased."""

    record_count: int
    already_erased: int


@dataclass(frozen=True, slots=True)
class ListFilter:
    """What a list of requests is narrowed to; ``subject`` and ``external_id`` match exactly.

    ``model`` is a name or an id, ``model_id`` an id.
    """

    status: str | None = None
    model: str | None = None
    external_id: str | None = None
    subject: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    model_id: str | None = None


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request with what belongs to it: model names, its runs in order, certificates, why it failed or waits."""

    request: DeletionRequest
    models: tuple[str, ...]
    run_ids: tuple[str, ...]
    certificate_ids: tuple[str, ...]
    error: Mapping[str, Any] | None
    waits_for: str | None = None


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of one item of a batch: the request, or why there is none."""

    view: RequestView | None = None
    error: DomainError | None = None


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request that waits for a run on a model, since it was accepted.

    ``subjects``: the people whose records the model still has to forget. Records that name nobody count as one person
    a request.
    """

    since: datetime
    due_at: datetime | None
    subjects: frozenset[str]
