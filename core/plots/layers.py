"""Which layers are hard: a heat map of an assessment's table."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.plots.drawing import figure_of, sheet
from core.plots.evidence import Evidence, NothingToPlot, Row

_MOST = 40


def figure(evidence: Evidence) -> Figure:
    """Each tensor's κ / (‖r‖‖f‖) in [-1, 1] and its share of S, the largest shares first, 40 at most.

    The share of S is also the share of the quota, unless a policy says otherwise. Raises ``NothingToPlot`` before the
    hardness has been measured.
    """
    rows = [row for row in evidence.hardness.get("layers") or () if _reach(row) is not None]
    total = sum(_reach(row) or 0.0 for row in rows)
    if not total > 0:
        raise NothingToPlot("No layer's hardness has been measured yet.")
    rows.sort(key=lambda row: -(_reach(row) or 0.0))
    shown = rows[:_MOST]
    left_out = f" ({_MOST} of {len(rows)} tensors)" if len(rows) > _MOST else ""
    title = f"Hardness by layer: dark pulls against retaining{left_out}"
    (axes,) = sheet(title, height=1.3 + 0.2 * len(shown))
    _heat_map(axes, shown, total)
    return figure_of(axes)


def _reach(row: Row) -> float | None:
    """p = ‖r‖‖f‖, what a step can gain in the tensor."""
    retain, forget = row.get("retain_norm"), row.get("forget_norm")
    return None if retain is None or forget is None else float(retain) * float(forget)


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.0005 else "< 0.1%"


def _heat_map(axes: Axes, rows: list[Row], total: float) -> None:
    cosines = np.array([float(row.get("cosine") or 0.0) for row in rows])
    shares = np.array([(_reach(row) or 0.0) / total for row in rows])
    shades = np.stack([(cosines + 1) / 2, shares / shares.max()], axis=1)
    edges = np.arange(len(rows) + 1) - 0.5
    axes.pcolormesh([0, 1, 2], edges, shades, cmap="Greys", vmin=0, vmax=1.2, edgecolor="0.6", linewidth=0.4)
    for place, (cosine, share) in enumerate(zip(cosines, shares, strict=True)):
        for column, text in enumerate((f"{cosine:+.2f}", _percent(share))):
            color = "white" if shades[place, column] > 0.7 else "black"
            axes.text(column + 0.5, place, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks([0.5, 1.5], ["κ / (‖r‖‖f‖)", "share of S"])
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), [str(row.get("name", "")) for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.grid(visible=False)
