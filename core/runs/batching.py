"""Whether the requests that wait for a model are unlearned now or wait for others, as one pure function."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from core.deletions.commands import Waiter
from core.deletions.deadlines import turn
from core.policies.body import Policy

Why = Literal["nothing_left", "deadline", "size", "window"]
WaitsFor = Literal["waiting_for_subjects", "waiting_for_batch"]


@dataclass(frozen=True, slots=True)
class Take:
    """Unlearn all of them now."""

    why: Why


@dataclass(frozen=True, slots=True)
class Wait:
    """Leave them; if nobody joins, they are taken at ``until``."""

    until: datetime
    why: WaitsFor


@dataclass(frozen=True, slots=True)
class Rules:
    """What a policy says about batches: see ``core.policies.body.Policy``."""

    window: timedelta
    size: int
    floor: int
    force_before: timedelta

    @classmethod
    def of(cls, policy: Policy) -> "Rules":
        """The policy's rules."""
        return cls(
            window=timedelta(seconds=policy.batch_window_s),
            size=policy.batch_size,
            floor=policy.min_subjects,
            force_before=timedelta(seconds=policy.force_before_due_s),
        )

    @property
    def count_people(self) -> bool:
        """Whether anything depends on who waits; otherwise times are enough."""
        return self.floor > 1 or self.size > 0


def decide(waiting: Sequence[Waiter], rules: Rules, now: datetime) -> Take | Wait:
    """What becomes of the requests that wait, of which there is at least one.

    A deadline that is near goes before everything else, then comes the privacy floor, then size and window. A request
    without a deadline is treated as if it had the one by which it takes its turn, so that no floor holds it for good.
    """
    people = frozenset[str]().union(*(one.subjects for one in waiting))
    forced_at = min(turn(one.due_at, one.since) for one in waiting) - rules.force_before
    window_ends = min(one.since for one in waiting) + rules.window
    if rules.count_people and not people:
        return Take("nothing_left")
    if forced_at <= now:
        return Take("deadline")
    if rules.count_people and len(people) < rules.floor:
        return Wait(forced_at, "waiting_for_subjects")
    if rules.size and len(people) >= rules.size:
        return Take("size")
    if not rules.window or window_ends <= now:  # without a window nothing hangs on whose clock is ahead
        return Take("window")
    return Wait(min(window_ends, forced_at), "waiting_for_batch")
