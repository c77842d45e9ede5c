"""States of model versions and the moves between them."""

from enum import StrEnum
from typing import Final

from core.platform.errors import IllegalTransition


class VersionState(StrEnum):
    """``active``; ``retired`` once superseded, kept for the policy's retention; ``purged``: files gone, record kept."""

    ACTIVE = "active"
    RETIRED = "retired"
    PURGED = "purged"


_MOVES: Final = {
    VersionState.ACTIVE: {VersionState.RETIRED},
    VersionState.RETIRED: {VersionState.PURGED},
    VersionState.PURGED: set[VersionState](),
}


def advance(state: VersionState | str, to: VersionState) -> VersionState:
    """The state after the move. Raises ``IllegalTransition`` when there is no such move."""
    if to not in _MOVES[VersionState(state)]:
        raise IllegalTransition(f"A version that is {state} cannot become {to}.")
    return to
