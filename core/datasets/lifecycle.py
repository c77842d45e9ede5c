"""States of data sets and of records, and the moves between them."""

from enum import StrEnum
from typing import Final


class DatasetStatus(StrEnum):
    """``ready`` and ``failed`` are final; a failed data set makes way for another of its name."""

    INDEXING = "indexing"
    READY = "ready"
    FAILED = "failed"


class RecordState(StrEnum):
    """Whether a record may be used: ``pending_erasure`` from the acceptance of a request on."""

    ACTIVE = "active"
    PENDING_ERASURE = "pending_erasure"
    ERASED = "erased"


COMES_FROM: Final = {
    RecordState.ACTIVE: (RecordState.PENDING_ERASURE,),
    RecordState.PENDING_ERASURE: (RecordState.ACTIVE,),
    RecordState.ERASED: (RecordState.PENDING_ERASURE,),
}
"""The states a record may be in before it moves to the key. Nothing leaves ``erased``."""
