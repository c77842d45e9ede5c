"""What can go wrong with legal holds, and because of them."""

from core.platform.errors import Conflict, NotFound


class HoldNotFound(NotFound):
    """No legal hold of this id in the caller's workspace."""

    code = "legal_hold_not_found"


class HoldReleased(Conflict):
    """The legal hold has been released before."""

    code = "legal_hold_released"


class OnLegalHold(Conflict):
    """A legal hold covers the object: nothing of it is purged until the hold is released."""

    code = "legal_hold"
