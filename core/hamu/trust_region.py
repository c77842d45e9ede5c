"""Choosing the rate η by comparing what a step promised with what it did.

Source: Conn, Gould & Toint, Trust-Region Methods (2000), with HAMU's first-order promises as the model. No torch: plain
numbers in, a decision out. The state is the rate, which lives in the optimizer, and the count of retries of one step.

>>> decision = region.judge(lr, retries=0, promised_gain=..., realised_gain=..., predicted_retain_change=..., ...)
>>> if not decision.accepted:
...     optimizer.retract(step)
>>> optimizer.param_groups[0]["lr"] = decision.learning_rate
"""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

Cause = Literal["gain_short", "retain_overrun", "target_passed", "non_finite"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with the step just taken."""

    accepted: bool
    """False: retract it."""
    retry: bool
    """After retracting: apply the same assessment again at ``learning_rate``. False when the retries are used up."""
    learning_rate: float
    """η for the retry, or for the next step."""
    cause: Cause | None
    """Why the step was not accepted."""
    agreement: float
    """Realised over promised gain; 1 if nothing was promised."""


@dataclass(frozen=True, slots=True)
class TrustRegion:
    """Accept, shrink or grow. Gains and changes are differences of losses in real units.

    accept_share: a step is kept if it realised at least this share of its promise …
    retain_share: … and the retain loss (same batch) ended above its prediction by at most this share of
        |predicted change| + promised gain.
    good_share: the rate grows only after a step that realised this share, and half the retain allowance at most.
    growth, shrink: factors of the rate. floor, cap: its bounds.
    max_retries: how often one step is tried again.
    leap: the largest share of the way left to the target that a single step may promise.
    """

    accept_share: float = 0.25
    good_share: float = 0.7
    retain_share: float = 0.5
    growth: float = 1.3
    shrink: float = 0.5
    floor: float = 1e-8
    cap: float = 1e4
    max_retries: int = 6
    leap: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.shrink < 1 <= self.growth and 0 < self.floor <= self.cap):
            raise ValueError("needs 0 < shrink < 1 <= growth and 0 < floor <= cap")
        if not (0 <= self.accept_share <= self.good_share and self.retain_share >= 0 and self.leap > 0):
            raise ValueError("needs 0 <= accept_share <= good_share, retain_share >= 0 and leap > 0")

    def judge(
        self,
        learning_rate: float,
        *,
        promised_gain: float,
        realised_gain: float,
        predicted_retain_change: float,
        realised_retain_change: float,
        allowed_gain: float = float("inf"),
        retries: int = 0,
        resolution: float = 0.0,
    ) -> Decision:
        """Decide about a step taken at ``learning_rate`` after ``retries`` earlier tries of it.

        allowed_gain: the way left to the target plus what may be overshot. ``limit`` bounds the promise of a step, but
        a loss that curves upwards gains more than it promised.
        resolution: losses closer than this are the same number (their rounding, say 1e-6 of their size). Without it a
        step that promises less than the rounding could never be seen to keep its promise.
        """
        agreement = realised_gain / promised_gain if promised_gain > 0 else 1.0
        allowance = self.retain_share * (abs(predicted_retain_change) + max(promised_gain, 0.0))
        overrun = realised_retain_change - predicted_retain_change - resolution
        gain = realised_gain + resolution
        cause: Cause | None = None
        if not (isfinite(realised_gain) and isfinite(realised_retain_change)):
            cause = "non_finite"
        elif gain < self.accept_share * promised_gain:
            cause = "gain_short"
        elif overrun > allowance:
            cause = "retain_overrun"
        elif realised_gain > allowed_gain + resolution:
            cause = "target_passed"
        if cause is not None:
            shrunk = self.bounded(learning_rate * self.shrink)
            retry = retries < self.max_retries and shrunk < learning_rate
            return Decision(False, retry, shrunk, cause, agreement)
        good = gain >= self.good_share * promised_gain and overrun <= allowance / 2
        return Decision(True, False, self.bounded(learning_rate * (self.growth if good else 1.0)), None, agreement)

    def limit(
        self, learning_rate: float, *, promised_gain: float, remaining_gain: float, least_gain: float = 0.0
    ) -> float:
        """The rate at which a step promises ``least_gain`` or more, but no more than ``leap`` of the gain still wanted.

        promised_gain: what the step planned at ``learning_rate`` promises. It is proportional to the rate.
        """
        wanted = min(max(promised_gain, least_gain), self.leap * max(remaining_gain, 0.0))
        if promised_gain <= 0 or wanted == promised_gain:
            return self.bounded(learning_rate)
        return self.bounded(learning_rate * wanted / promised_gain)

    def bounded(self, learning_rate: float) -> float:
        """``learning_rate`` between floor and cap."""
        return min(max(learning_rate, self.floor), self.cap)
