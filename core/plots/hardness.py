"""How hard each step was: κ between its borders, and what became of the blocks of weights."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.plots.drawing import Pen, figure_of, legend, line, sheet
from core.plots.evidence import Evidence, NothingToPlot, Row

_COLUMNS = ("step", "kappa", "kappa_1", "kappa_2", "forget_capacity")
_BRANCHES = {
    "direct": ("0.95", ""),
    "rectified": ("0.75", "////"),
    "colinear": ("0.55", "----"),
    "infeasible": ("0.2", "xxxx"),
}
_KAPPA, _EDGE = Pen("black", "-", "o"), Pen("0.35", "--", "")


def figure(evidence: Evidence) -> Figure:
    """κ with the bands that κ₁ and κ₂ bound, over S, and the shares of the branches. Raises ``NothingToPlot``.

    S changes by orders of magnitude along a run, so all three are drawn as shares of it; they lie in [-1, 1]. Summed
    over blocks they are for reading: with more than one block the ledger's verdict is not decided by them alone.
    """
    rows = [row for row in evidence.rows_with(*_COLUMNS) if float(row["forget_capacity"]) > 0]
    if not rows:
        raise NothingToPlot("The gradients of every step were zero.")
    kappas, branches = sheet(
        "Hardness: low is better; above κ₂ forgetting must cost the retain set", 2, height=5.2, ratios=(2, 1)
    )
    steps = [int(row["step"]) for row in rows]
    _bands(kappas, steps, _shares(rows, "kappa_1"), _shares(rows, "kappa_2"))
    line(kappas, steps, _shares(rows, "kappa"), _KAPPA, "κ / S")
    kappas.set_ylabel("share of S")
    kappas.set_ylim(-1.05, 1.05)
    legend(kappas)
    _stack(branches, steps, rows)
    return figure_of(kappas)


def _shares(rows: Sequence[Row], column: str) -> list[float]:
    return [float(row[column]) / float(row["forget_capacity"]) for row in rows]


def _bands(axes: Axes, steps: Sequence[int], low: Sequence[float], high: Sequence[float]) -> None:
    around = {"step": "mid", "linewidth": 0.0, "edgecolor": "0.7"}
    axes.fill_between(steps, high, 1.05, facecolor="0.9", hatch="////", label="above κ₂: irreconcilable", **around)
    line(axes, steps, high, _EDGE, "κ₂ / S", linewidth=1.0)
    line(axes, steps, low, Pen("0.35", ":"), "κ₁ / S", linewidth=1.4)
    axes.fill_between(steps, -1.05, low, facecolor="white", hatch="\\\\", label="below κ₁: easy", **around)


def _stack(axes: Axes, steps: Sequence[int], rows: Sequence[Row]) -> None:
    base = np.zeros(len(rows))
    for name, (color, hatch) in _BRANCHES.items():
        share = np.array([float(row.get(name) or 0.0) for row in rows])
        if share.any():
            axes.fill_between(
                steps,
                base,
                base + share,
                step="mid",
                facecolor=color,
                edgecolor="black",
                linewidth=0.4,
                hatch=hatch,
                label=name,
            )
        base = base + share
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of blocks")
    axes.set_xlabel("step")
    legend(axes)
