"""What plots are made from: the plain rows and JSON that a run keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.platform.errors import Conflict

Row = Mapping[str, Any]


class NothingToPlot(Conflict):
    """The run holds nothing that this plot shows: it is too early for it, or its method does not measure that."""

    code = "nothing_to_plot"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A run's step ledger and its blocks ``hardness`` and ``metrics``, as the API gives them."""

    rows: Sequence[Row] = ()
    hardness: Mapping[str, Any] = field(default_factory=dict[str, Any])
    metrics: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def rows_with(self, *columns: str) -> Sequence[Row]:
        """The rows that have a number in each of ``columns``. Raises ``NothingToPlot`` when there are none."""
        found = [row for row in self.rows if all(row.get(name) is not None for name in columns)]
        if not found:
            raise NothingToPlot(f"The step ledger holds no {' and '.join(columns)} yet, or its method has none.")
        return found


def block(source: Mapping[str, Any], *path: str) -> Any:
    """What lies at ``path`` in nested JSON; None when it is not there."""
    found: Any = source
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
