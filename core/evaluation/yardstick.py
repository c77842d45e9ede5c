"""How large the loss of a record is that the model never saw."""

import math

from core.evaluation.scores import SetScores


def yardstick(before: SetScores, now: SetScores) -> float | None:
    """The mean loss in nats that forgotten records should have: the geometric mean of the holdout's, before and now.

    Unlearning disturbs the holdout a little, so its loss before and its loss now are both an answer to "what would a
    stranger's loss be". Following the second alone would chase the run's own disturbance; the middle (in ratio) is
    as close to both as one number can be. None when the holdout is empty or a loss is not a positive finite number.
    """
    product = before.loss * now.loss
    return math.sqrt(product) if math.isfinite(product) and product > 0 else None
