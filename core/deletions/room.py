"""How many requests of a workspace may be open at a time."""

import math
import time
from collections.abc import Callable
from typing import Final

from sqlalchemy.orm import Session

from core.deletions.errors import TooManyOpenRequests
from core.deletions.repository import Requests

_PLENTY: Final = 5000
"""More requests than a workspace gives within ``_HOLDS_S`` seconds, to all web processes together."""
_HOLDS_S: Final = 1.0


class Room:
    """Counts the open requests of workspaces, for one process. Called from threads.

    A count takes longer the more there are, so it is made once a second only while there is plenty of room.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """``limit``: how many may be open in a workspace."""
        self._limit = limit
        self._clock = clock
        self._plenty_until: dict[str, float] = {}

    def check(self, tx: Session, workspace_id: str) -> None:
        """Raises ``TooManyOpenRequests`` unless one more may be open in the workspace.

        Where there is not plenty of room, those who add one request count one after another, until their ``tx`` ends.
        """
        if self._is_plenty(workspace_id):
            return
        Requests(tx).line_up(workspace_id)
        if self._is_plenty(workspace_id):  # by whoever was before
            return
        now = self._clock()
        found = Requests(tx).open_in(workspace_id, at_most=self._limit)
        if found >= self._limit:
            raise TooManyOpenRequests(self._limit)
        if found + _PLENTY <= self._limit:
            self._plenty_until[workspace_id] = now + _HOLDS_S

    def _is_plenty(self, workspace_id: str) -> bool:
        return self._clock() < self._plenty_until.get(workspace_id, -math.inf)
