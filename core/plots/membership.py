"""Can forget records be told from records the model never saw? Their scores, before and after."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.plots.drawing import FORGET, RETAIN, Pen, figure_of, legend, sheet
from core.plots.evidence import Evidence, NothingToPlot, block

_SETS = {"forget": FORGET, "holdout": RETAIN}


def figure(evidence: Evidence) -> Figure:
    """The shares of forget and holdout records by score, before the run and (once it has been measured) after it.

    Raises ``NothingToPlot`` when the metrics hold no scores of both sets.
    """
    moments = [moment for moment in ("before", "after") if _scored(evidence.metrics, moment)]
    if not moments:
        raise NothingToPlot("No scores of forget and holdout records have been measured yet.")
    title = "Membership: after unlearning the two distributions should lie on each other"
    panels = sheet(title, len(moments), height=1.2 + 2.2 * len(moments))
    for axes, moment in zip(panels, moments, strict=True):
        for name, pen in _SETS.items():
            _steps(axes, block(evidence.metrics, moment, "scores", name), name, pen)
        auc = block(evidence.metrics, moment, "membership_auc")
        axes.set_title(moment if auc is None else f"{moment}: AUC {float(auc):.2f} (0.5: cannot be told apart)")
        axes.set_ylabel("share of records")
        legend(axes)
    panels[-1].set_xlabel("loss of a record [nats]")
    return figure_of(panels[0])


def _scored(metrics: Mapping[str, Any], moment: str) -> bool:
    return all(sum(block(metrics, moment, "scores", name, "counts") or ()) for name in _SETS)


def _steps(axes: Axes, histogram: Mapping[str, Sequence[float]], name: str, pen: Pen) -> None:
    counts = np.array(histogram["counts"], dtype=float)
    label = f"{name} ({int(counts.sum())} records)"
    axes.stairs(
        counts / counts.sum(), histogram["edges"], fill=True, facecolor="none", edgecolor=pen.color, hatch=pen.hatch,
        linestyle=pen.line, linewidth=1.4, label=label,
    )  # fmt: skip
