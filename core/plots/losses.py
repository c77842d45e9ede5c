"""Losses along a run: what was to be forgotten, what was to be kept, and where forgetting should end."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.plots.drawing import FORGET, GOAL, RETAIN, figure_of, legend, line, scale_for, sheet
from core.plots.evidence import Evidence


def figure(evidence: Evidence) -> Figure:
    """Forget and retain loss after each step and the yardstick, in nats. Raises ``NothingToPlot`` without steps.

    Steps that repaired the retain set, and tries that were taken back, are marked below.
    """
    rows = evidence.rows_with("step", "forget_loss", "forget_loss_after", "retain_loss_after")
    (axes,) = sheet("Losses: the forget set should rise to the yardstick, the retain set stay low")
    steps = [int(row["step"]) for row in rows]
    forget = [float(rows[0]["forget_loss"]), *(float(row["forget_loss_after"]) for row in rows)]
    retain = [float(row["retain_loss_after"]) for row in rows]
    line(axes, [steps[0] - 1, *steps], forget, FORGET, "forget set, whole")
    line(axes, steps, retain, RETAIN, "retain set, a minibatch", linewidth=1.0)
    aimed = [row for row in rows if row.get("yardstick") is not None]
    goals = [float(row["yardstick"]) for row in aimed]
    if aimed:
        line(axes, [int(row["step"]) for row in aimed], goals, GOAL, "yardstick (holdout)", linewidth=1.8)
    _mark(axes, [int(row["step"]) for row in rows if row.get("kind") == "repair"], "|", "repair step")
    _mark(axes, [int(row["step"]) for row in rows if row.get("accepted") is False], "x", "taken back")
    scale_for(axes, forget, retain, goals)
    axes.set_xlabel("step")
    axes.set_ylabel("mean loss [nats]")
    legend(axes)
    return figure_of(axes)


def _mark(axes: Axes, steps: Sequence[int], marker: str, label: str) -> None:
    if steps:
        place = axes.get_xaxis_transform()
        axes.plot(steps, [0.03] * len(steps), marker, color="0.25", markersize=5, transform=place, label=label)
