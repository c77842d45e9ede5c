"""One row for each forget record: what an average hides."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.evaluation.worst_k import percentiles
from core.unlearning.measuring import Scores, finite
from core.unlearning.observing import Look

MOST_ROWS = 10_000
_WORST = 10

Row = dict[str, Any]


def record_rows(
    before: Look, after: Look, *, holdout: NDArray[np.floating], targets: Scores | None, record_ids: Sequence[str]
) -> tuple[Row, ...]:
    """The rows of all forget records, or of the 10,000 that still look most like members; those come first.

    ``record_id``; ``loss_before``, ``loss_after`` and ``target`` in nats (None without one); ``correct_before`` and
    ``correct_after``, the share of the record's answers that are right; ``percentile``: of the matched holdout's losses
    now, (m,), the share of which this record's lies above, from 0 (still known better than any stranger) to 1.
    """
    were, are = before.forget.scores, after.forget.scores
    # The fewer strangers lie below it, the more a record looks like a member; equal ones go by their loss.
    ranks = percentiles(are.losses, holdout)
    order = np.lexsort((are.losses, ranks))[:MOST_ROWS]
    return tuple(
        {
            "record_id": record_ids[i],
            "loss_before": finite(float(were.losses[i])),
            "loss_after": finite(float(are.losses[i])),
            "correct_before": float(were.correct[i] / were.counted[i]),
            "correct_after": float(are.correct[i] / are.counted[i]),
            "target": None if targets is None else finite(float(targets[i])),
            "percentile": finite(float(ranks[i])),
        }
        for i in order.tolist()
    )


def worst(rows: Sequence[Row]) -> list[Row]:
    """The first ten of ``record_rows``, without what the answers were."""
    return [{key: value for key, value in row.items() if "correct" not in key} for row in rows[:_WORST]]
