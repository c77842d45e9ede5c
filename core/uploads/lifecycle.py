"""States of uploads and the moves between them."""

from enum import StrEnum
from typing import Final

from core.platform.errors import IllegalTransition


class UploadStatus(StrEnum):
    """``open`` takes files, ``complete`` is verified, ``used`` became part of a data set or model version."""

    OPEN = "open"
    COMPLETE = "complete"
    USED = "used"
    EXPIRED = "expired"


_MOVES: Final = {
    UploadStatus.OPEN: {UploadStatus.COMPLETE, UploadStatus.EXPIRED},
    UploadStatus.COMPLETE: {UploadStatus.USED, UploadStatus.EXPIRED},
    UploadStatus.USED: {UploadStatus.COMPLETE},  # what used it failed
    UploadStatus.EXPIRED: set[UploadStatus](),
}


def advance(status: UploadStatus | str, to: UploadStatus) -> UploadStatus:
    """The status after the move. Raises ``IllegalTransition`` when there is no such move."""
    if to not in _MOVES[UploadStatus(status)]:
        raise IllegalTransition(f"An upload that is {status} cannot become {to}.")
    return to
