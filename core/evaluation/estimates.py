"""A measured number and how sure it is."""

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval; an exact number has low == value == high. nan where it cannot be said."""

    value: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> "Estimate":
        """A number that was counted, not estimated."""
        return cls(value, value, value)

    def as_dict(self) -> dict[str, float | None]:
        """Plain data; a number that is not finite is None."""
        return {name: number if math.isfinite(number) else None for name, number in asdict(self).items()}
