"""Gates: a measurement, the margin in which it must lie, and whether it does, does not, or cannot be told."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from core.evaluation.estimates import Estimate
from core.evaluation.limits import GATES, INFORMATIVE, Limit, Limits, Severity

Status = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True, slots=True)
class Gate:
    """One judged measurement: ``value`` and its 95 % interval ``low`` to ``high``, the margin and the status.

    ``passed``: the whole interval lies inside the closed margin; ``failed``: none of it does; ``undecided``: it crosses
    an edge, so there are too few records to tell, or it could not be measured (nan). ``no_op``: the same measurement
    on the unchanged weights; ``no_op_status``: how that one would have been judged; both None when there is none.
    """

    name: str
    group: str
    value: float
    low: float
    high: float
    at_least: float | None
    at_most: float | None
    status: Status
    severity: Severity
    no_op: float | None = None
    no_op_status: Status | None = None

    @property
    def measured(self) -> bool:
        """Whether there is a number to judge, however uncertain."""
        return not math.isnan(self.value)

    @property
    def always(self) -> bool:
        """Whether every run that unlearns must have measured this."""
        return GATES[self.name].always

    @property
    def informative(self) -> bool:
        """False for a gate of forgetting that the unchanged weights pass: it cannot tell before from after."""
        return not (self.group in INFORMATIVE and self.no_op_status == "passed")

    @property
    def limit(self) -> float:
        """The margin's edge that is nearest to the value; the upper one of a value that is nan."""
        edges = [edge for edge in (self.at_most, self.at_least) if edge is not None]
        return min(edges, key=lambda edge: abs(edge - self.value) if math.isfinite(self.value) else 0.0)

    def as_dict(self) -> dict[str, Any]:
        """Plain data in the contract's words; a number that is not finite is None."""
        numbers = {name: _finite(getattr(self, name)) for name in ("value", "low", "high", "no_op")}
        fields = {name: getattr(self, name) for name in _PLAIN}
        return {**fields, **numbers, "limit": self.limit, "passed": self.status == "passed"}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The gate that ``as_dict`` wrote; a number that was not finite is nan. Raises ``KeyError``."""
        unknown = raw["value"] is None
        value = math.nan if unknown else float(raw["value"])
        low, high = (
            value if unknown else open_end if raw[name] is None else float(raw[name])
            for name, open_end in (("low", -math.inf), ("high", math.inf))
        )
        plain: dict[str, Any] = {name: raw[name] for name in _PLAIN}
        return cls(**plain, value=value, low=low, high=high, no_op=raw["no_op"])


_PLAIN: Final = ("name", "group", "at_least", "at_most", "status", "severity", "no_op_status")


def judge(measurements: Mapping[str, Estimate], no_op: Mapping[str, Estimate], limits: Limits) -> tuple[Gate, ...]:
    """The gates of a run, in the order of the table ``GATES``.

    measurements: name → estimate after the run; no_op: the same on the unchanged weights. Names that are no gate are
    passed over (they are only shown); gates without a measurement are left out, unless every run needs them
    (``Limit.always``): then they are undecided. So are measurements that are nan.
    """
    found = [_gate(name, limits.of(name), measurements.get(name), no_op.get(name)) for name in GATES]
    return tuple(gate for gate in found if gate is not None)


def status(low: float, high: float, limit: Limit) -> Status:
    """How the interval ``low`` to ``high`` (low ≤ high, or nan) lies to the limit's closed margin."""
    if math.isnan(low) or math.isnan(high):
        return "undecided"
    bottom = -math.inf if limit.at_least is None else limit.at_least
    top = math.inf if limit.at_most is None else limit.at_most
    if bottom <= low and high <= top:
        return "passed"
    return "failed" if high < bottom or top < low else "undecided"


def _gate(name: str, limit: Limit, after: Estimate | None, before: Estimate | None) -> Gate | None:
    if limit.severity == "off" or (after is None and not limit.always):
        return None
    value, low, high = (math.nan,) * 3 if after is None else (after.value, after.low, after.high)
    return Gate(
        name=name,
        group=limit.group,
        value=value,
        low=low,
        high=high,
        at_least=limit.at_least,
        at_most=limit.at_most,
        status="undecided" if math.isnan(value) else status(low, high, limit),
        severity=limit.severity,
        no_op=None if before is None else before.value,
        no_op_status=None if before is None else status(before.low, before.high, limit),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
