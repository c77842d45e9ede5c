"""What must hold before a new version may be published without a person's look."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from core.evaluation.scores import SetScores

OVERSHOOT = 1.2
"""Forgotten beyond this multiple of the holdout's loss is a trace of its own."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One check. ``value`` is None when it cannot be measured, and the gate is then not passed."""

    name: str
    limit: float
    value: float | None
    passed: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain data in the contract's words."""
        return asdict(self)


def retain_accuracy_drop(before: SetScores, after: SetScores, *, limit: float) -> Gate:
    """Retain accuracy fell by at most ``limit`` (a share of 1)."""
    drop = _finite(before.accuracy - after.accuracy)
    return Gate("retain_accuracy_drop", limit, drop, drop is not None and drop <= limit)


def forget_reached_target(forget: SetScores, yardstick: float | None, *, limit: float) -> Gate:
    """The forget loss after the run is at least ``limit`` of the yardstick (nats; None without a holdout)."""
    share = _share(forget, yardstick)
    return Gate("forget_reached_target", limit, share, share is not None and share >= limit)


def forget_not_overshot(forget: SetScores, yardstick: float | None, *, limit: float = OVERSHOOT) -> Gate:
    """The forget loss after the run is at most ``limit`` times the yardstick."""
    share = _share(forget, yardstick)
    return Gate("forget_not_overshot", limit, share, share is not None and share <= limit)


def something_changed(before: SetScores, after: SetScores, *, owed: float, gained: float, displacement: float) -> Gate:
    """The weights moved, the forget loss rose, and the whole forget set gained what the ledger's steps owed.

    owed: the sum of the accepted steps' promises times the share each of them had to keep. gained: what was measured
    on the whole forget set before and after the run, in the same units.
    """
    value = _finite(gained)
    rose = after.loss > before.loss and displacement > 0
    return Gate("something_changed", owed, value, value is not None and rose and 0 < value >= owed)


def _share(forget: SetScores, yardstick: float | None) -> float | None:
    return _finite(forget.loss / yardstick) if yardstick else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
