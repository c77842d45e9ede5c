"""What the steps promised against what they did, added up along the run."""

from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.plots.drawing import FORGET, GOAL, RETAIN, Pen, figure_of, legend, line, sheet
from core.plots.evidence import Evidence, Row

_COLUMNS = ("step", "promised_forget_gain", "realised_forget_gain", "predicted_retain_change", "realised_retain_change")


def figure(evidence: Evidence) -> Figure:
    """Promised and realised forget gain, predicted and realised retain change, summed over the steps that were kept.

    The forget gain is that of the objective over the whole forget set, the retain change that of each step's own
    minibatch. Raises ``NothingToPlot`` for a method that promises nothing.
    """
    rows = [row for row in evidence.rows_with(*_COLUMNS) if row.get("accepted", True)]
    gain, cost = sheet("Promise and outcome: the realised gain should keep up with the promise", 2, height=5.2)
    _pair(gain, rows, "promised_forget_gain", "realised_forget_gain", FORGET, "promised")
    gain.set_ylabel("forget gain, summed [nats]")
    _pair(cost, rows, "predicted_retain_change", "realised_retain_change", RETAIN, "predicted")
    cost.set_ylabel("retain change, summed [nats]")
    cost.axhline(0, color="black", linewidth=0.8)
    cost.set_xlabel("step (those taken back are left out)")
    return figure_of(gain)


def _pair(axes: Axes, rows: list[Row], said: str, done: str, pen: Pen, word: str) -> None:
    steps = [int(row["step"]) for row in rows]
    line(axes, steps, list(accumulate(float(row[said]) for row in rows)), GOAL, word, linewidth=1.8)
    line(axes, steps, list(accumulate(float(row[done]) for row in rows)), pen, "realised")
    legend(axes)
