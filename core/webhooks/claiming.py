"""How much of the senders each receiver may take, so that a slow or dead one delays nobody.

Webhooks and OpenDSR callbacks are claimed by the same rules. Receivers whose last attempt failed, or that have not
answered yet, are *suspects*: one call at a time each, and all of them together at most half of the senders. The others
always find the other half.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, case, literal
from sqlalchemy.orm import InstrumentedAttribute


@dataclass(frozen=True, slots=True)
class Room:
    """What may be claimed: up to ``limit`` jobs, and of each receiver up to ``each`` less those under way to it."""

    limit: int
    each: int
    suspects: bool
    """Room for suspects, or for the others."""
    flying: Mapping[str, int] = field(default_factory=dict[str, int])
    """Calls under way, by receiver."""

    def left_for(self, receiver: ColumnElement[str] | InstrumentedAttribute[str]) -> ColumnElement[int]:
        """SQL: how many more calls may go to the receiver in that column."""
        if not self.flying:
            return literal(self.each)
        return self.each - case(dict(self.flying), value=receiver, else_=0)
