"""What "forgotten" means for each record, as one smooth number to be raised.

The mean loss is a poor goal. It reaches the holdout's when a few records carry it all and the rest are still known;
and a record that the model is sure of has a vanishing gradient, so those few records are all that a step can see.
Both are mended here. A record counts by its surprise, the log-odds against it, whose gradient does not vanish. And it
has a target: the holdout's losses matched by rank, so that the records that the model knows best are to look like the
strangers it guesses best. Steps for some records carry others along, so a record beyond its target is pulled back.

Ranks are by the mean of surprise before the run and now. By surprise before alone, a record that was carried far has a
near target to come back to, against steps for others. By surprise now alone, whatever gives way first takes the
farthest targets, and easy records made hard ones pull strangers with them.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SOFTNESS = 0.2
"""Width of the passage from too little to too far, in nats of surprise."""

PULL = 0.2
"""Weight of a record beyond its target beside one that falls short of it: forgetting comes first."""

AIM = 1.05
"""Targets are this multiple of the matched losses: a record slows down before its target, and the run ends when the
mean has come close enough, so aiming at the matched losses themselves would end just short of them."""

_PEAK = SOFTNESS * (math.log1p(PULL) + PULL * math.log1p(1 / PULL))
"""What is added so that the objective ends at 0; without it that would be its value SOFTNESS·log(1/PULL) beyond τ."""

LEAST_LOSS = 1e-5
"""Nats, added to every loss: float32 cannot tell losses below 1e-7 apart, and a sure answer has infinite odds."""

_LOSS_ROUNDING = 1e-7
"""Nats by which a loss in float32 may be off."""


def surprise(losses: Tensor) -> Tensor:
    """log((1 − p)/p) with p = exp(−loss), in nats: the log-odds against the right answer; of any shape.

    Large losses are their own surprise, small ones have the surprise log(loss). Of a language model's record, p is
    the geometric mean of its tokens' probabilities.
    """
    raised = losses + LEAST_LOSS
    return raised + torch.log(-torch.expm1(-raised))


def rounding(losses: NDArray[np.floating]) -> float:
    """Nats by which the mean surprise of records with these losses, (n,), is uncertain as their losses are rounded."""
    return float((_LOSS_ROUNDING / -np.expm1(-(losses.astype(np.float64) + LEAST_LOSS))).mean())


def standing(before: NDArray[np.floating], now: NDArray[np.floating]) -> NDArray[np.float64]:
    """What forget records are ranked by, from their losses, (n,) each: the mean of both surprises, in nats."""
    both = torch.from_numpy(np.stack([before, now]).astype(np.float64))
    return surprise(both).mean(dim=0).numpy()


def matched_targets(forget: NDArray[np.floating], holdout: NDArray[np.floating]) -> NDArray[np.float64]:
    """A target loss in nats for each forget record, shape (n,), from the holdout's losses, shape (m,), m ≥ 1.

    forget: what ranks the records: losses, or ``standing``. The sorted holdout losses are cut into n equal shares; the
    record of rank k gets the mean of share k. So the targets' mean is the holdout's mean, whatever n and m are.
    """
    n, m = len(forget), len(holdout)
    total = np.concatenate([[0.0], np.cumsum(np.sort(holdout))])
    shares = np.diff(np.interp(np.linspace(0, m, n + 1), np.arange(m + 1), total)) * n / m
    targets = np.empty(n)
    targets[np.argsort(forget, kind="stable")] = shares
    return targets


@dataclass(frozen=True, slots=True)
class ForgetObjective:
    """φ(s) = c - T·[log(1 + exp((τ - s)/T)) + w·log(1 + exp((s - τ)/T))] of each record's surprise s, to be raised.

    τ is its target's surprise, T = SOFTNESS, w = PULL, and c makes the highest value 0. Far below the target the slope
    is 1: surprise counts in full. Far above it is -w. Without targets (no holdout) φ(s) = s.
    """

    targets: Tensor | None
    """(n,) float32, surprise in nats, in the order of the forget set."""

    @classmethod
    def matched(
        cls, forget: NDArray[np.floating], holdout: NDArray[np.floating], device: torch.device | None = None
    ) -> "ForgetObjective":
        """Targets matched by rank in ``forget`` to losses of the holdout; none if it is empty."""
        if not len(holdout):
            return cls(None)
        targets = torch.tensor(AIM * matched_targets(forget, holdout), dtype=torch.float32, device=device)
        return cls(surprise(targets))

    def values(self, losses: Tensor, where: slice) -> Tensor:
        """φ of the records at ``where``; losses and result (records,), in nats."""
        if self.targets is None:
            return surprise(losses)
        short = (self.targets[where] - surprise(losses)) / SOFTNESS
        return _PEAK - SOFTNESS * (F.softplus(short) + PULL * F.softplus(-short))


def value_of(objective: ForgetObjective, losses: NDArray[np.floating]) -> float:
    """The objective, in nats, if the forget set's losses were these, shape (n,) in its order; on the host."""
    return float(objective.values(torch.from_numpy(losses.astype(np.float32)), slice(None)).double().mean())
