"""A measured number and how sure it is.

Standard library only, so that processes without numpy can read and write estimates; intervals are computed by
``core.evaluation.bootstrap``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval; ``low <= value <= high``.

    An exact number has ``low == value == high``. All three are nan when the number cannot be said. An interval from
    -inf to inf belongs to a number that can be said while its uncertainty cannot, as with a single record.
    """

    value: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> "Estimate":
        """A number without uncertainty."""
        return cls(value, value, value)

    @classmethod
    def unknown(cls) -> "Estimate":
        """A number that cannot be said."""
        return cls.exact(math.nan)

    @classmethod
    def unbounded(cls, value: float) -> "Estimate":
        """A number of which nothing is known but itself."""
        return cls(value, -math.inf, math.inf)

    @property
    def known(self) -> bool:
        """Whether there is a number at all."""
        return not math.isnan(self.value)

    def through(self, rising: Callable[[float], float]) -> "Estimate":
        """The estimate of ``rising(x)``, for a function that never falls."""
        return Estimate(rising(self.value), rising(self.low), rising(self.high)) if self.known else self

    def as_dict(self) -> dict[str, float | None]:
        """Plain data for JSON: what is nan or infinite is None."""
        fields = {"value": self.value, "low": self.low, "high": self.high}
        return {name: number if math.isfinite(number) else None for name, number in fields.items()}
