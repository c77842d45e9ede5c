"""The finer state of a data subject request, which follows from its native deletion requests. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.deletions.lifecycle import Status as NativeStatus

HELD: Final = "held"
QUEUED: Final = "queued"
DONE: Final = "done"
CANCELLED: Final = "cancelled"
NEEDS_ATTENTION: Final = "needs_attention"

STUCK: Final = frozenset({NativeStatus.NEEDS_REVIEW, NativeStatus.FAILED, NativeStatus.CANCELLED})
"""States that nothing leaves without a person."""


@dataclass(frozen=True, slots=True)
class Native:
    """A deletion request as far as it matters here. ``error``: code of its failure."""

    id: str
    status: NativeStatus
    detail: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Finer:
    """A state within ``in_progress`` and a code for why it is so; never personal data."""

    state: str
    reason: str | None = None


def finer(natives: Sequence[Native]) -> Finer:
    """Whatever waits for a person comes first; done is only what is done in every model."""
    stuck = next((native for native in natives if native.status in STUCK), None)
    if stuck is not None:
        return Finer(NEEDS_ATTENTION, _reason(stuck))
    if all(native.status == NativeStatus.COMPLETED for native in natives):
        return Finer(DONE)
    working = next((native for native in natives if native.status == NativeStatus.IN_PROGRESS), None)
    return Finer(working.detail if working is not None else QUEUED)


def _reason(native: Native) -> str:
    match native.status:
        case NativeStatus.NEEDS_REVIEW:
            return "waiting_for_review"
        case NativeStatus.CANCELLED:
            return "withdrawn_by_operator"
        case _:
            return native.error or "failed"
