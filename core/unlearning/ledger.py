"""The run's record: what each step promised and what it did."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.hamu import Decision, Step

Kind = Literal["forget", "repair"]
Cell = float | int | str | bool | None
Row = dict[str, Cell]
"""One step of the ledger.

``step`` (from 1), ``kind`` (forget | repair), ``accepted``, ``retries`` (smaller rates tried), ``seconds``.
Mean losses in nats: ``forget_loss`` and ``forget_loss_after`` of the whole forget set, ``retain_loss`` and
``retain_loss_after`` of one minibatch, ``yardstick`` what is aimed at, as of the last look (None without a
holdout).
The guarantee, in units of the forget objective over the whole forget set: ``promised_forget_gain``,
``realised_forget_gain``; and for the retain minibatch ``predicted_retain_change``, ``realised_retain_change``.
Hardness, of clipped gradients: ``kappa``, ``kappa_1``, ``kappa_2``, ``cosine``, ``stopping_margin``, ``verdict``,
``forget_capacity`` (S, the most a step could gain, over the rate), ``free_capacity`` (C, that without retain cost),
``quota``. Dials: ``learning_rate``, ``quota_ratio``. Shares of blocks: ``direct``, ``rectified``, ``colinear``,
``infeasible``. Norms: ``retain_grad_norm``, ``forget_grad_norm``, ``retain_clip``, ``forget_clip``, ``update_norm``.
A step that was not accepted left the weights alone; its row shows the last try. What is not finite is None.
A peer method promises nothing and measures no hardness, so those columns are None; its gain is in the same units.
"""

COLUMNS = (
    "step", "kind", "accepted", "retries", "forget_loss", "forget_loss_after", "retain_loss", "retain_loss_after",
    "yardstick", "realised_forget_gain", "realised_retain_change", "forget_capacity", "free_capacity", "quota_ratio",
    "seconds", "retain_grad_norm", "forget_grad_norm", "retain_clip", "forget_clip", "quota", "kappa", "kappa_1",
    "kappa_2", "cosine", "stopping_margin", "direct", "rectified", "colinear", "infeasible", "learning_rate",
    "promised_forget_gain", "predicted_retain_change", "update_norm", "verdict",
)  # fmt: skip
"""Of every row, whatever the method."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A step that was applied, measured and judged."""

    step: Step
    decision: Decision
    kept: bool
    quota_ratio: float
    losses: NDArray[np.float64]
    """(n,) of the forget set after it."""
    retain_loss: float
    """Of the minibatch after it."""
    gain: float
    """Rise of the forget objective."""


def ledger_row(
    number: int, kind: Kind, trials: Sequence[Trial], *, forget_loss: float, yardstick: float | None, seconds: float
) -> Row:
    """The row of a step from its trials, at least one; ``forget_loss`` is the one before it."""
    last = trials[-1]
    numbers = last.step.row()
    row: Row = {
        "step": number,
        "kind": kind,
        "accepted": last.kept,
        "retries": len(trials) - 1,
        "forget_loss": forget_loss,
        "forget_loss_after": float(last.losses.mean()) if last.kept else forget_loss,
        "retain_loss": numbers["retain_loss"],
        "retain_loss_after": last.retain_loss if last.kept else numbers["retain_loss"],
        "yardstick": yardstick,
        "realised_forget_gain": last.gain,
        "realised_retain_change": last.retain_loss - float(numbers["retain_loss"] or 0.0),
        "forget_capacity": numbers["S"],
        "free_capacity": numbers["C"],
        "quota_ratio": last.quota_ratio,
        "seconds": seconds,
    }
    left_out = {"S", "C", "should_stop", "stop_reason", *row}
    row |= {key: value for key, value in numbers.items() if key not in left_out}
    return {key: _finite(value) for key, value in row.items()}


def peer_row(
    number: int,
    *,
    forget_loss: float,
    forget_loss_after: float,
    retain_loss: float,
    retain_loss_after: float,
    gain: float,
    yardstick: float | None,
    learning_rate: float,
    update_norm: float,
    seconds: float,
) -> Row:
    """The row of a peer's step, which is always kept; ``gain`` is the rise of the forget objective."""
    row: Row = {
        **dict.fromkeys(COLUMNS),
        "step": number,
        "kind": "forget",
        "accepted": True,
        "retries": 0,
        "forget_loss": forget_loss,
        "forget_loss_after": forget_loss_after,
        "retain_loss": retain_loss,
        "retain_loss_after": retain_loss_after,
        "yardstick": yardstick,
        "realised_forget_gain": gain,
        "realised_retain_change": retain_loss_after - retain_loss,
        "learning_rate": learning_rate,
        "update_norm": update_norm,
        "seconds": seconds,
    }
    return {key: _finite(value) for key, value in row.items()}


def total(rows: Sequence[Row], key: str) -> float:
    """Sum of one number over the accepted steps; None counts as 0."""
    return math.fsum(float(row[key] or 0.0) for row in rows if row["accepted"])


def _finite(value: Cell) -> Cell:
    return None if isinstance(value, float) and not math.isfinite(value) else value
