"""Does what was forgotten come back? Rounding the weights, and learning some of it again."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.plots.drawing import CONTROL, FORGET, GOAL, RETAIN, figure_of, legend, line, sheet
from core.plots.evidence import Evidence, NothingToPlot, block

_BAR = 0.36


def figure(evidence: Evidence) -> Figure:
    """Losses as saved and with rounded weights; loss of the rest while a part is learned again, beside a control.

    Raises ``NothingToPlot`` when no attack was measured.
    """
    attacks = block(evidence.metrics, "attacks") or {}
    rounded = {name: losses for name, losses in (attacks.get("quantisation") or {}).items() if losses}
    curves = {name: losses for name, losses in (attacks.get("relearning") or {}).items() if losses}
    draws = [one for one, found in (("rounded", rounded), ("curves", curves)) if found]
    if not draws:
        raise NothingToPlot("No attack on the run's weights has been measured.")
    title = "Attacks: the forget loss should stay where it is"
    panels = sheet(title, len(draws), height=1.0 + 2.4 * len(draws), share_x=False)
    for axes, what in zip(panels, draws, strict=True):
        _bars(axes, evidence.metrics, rounded) if what == "rounded" else _curves(axes, curves)
        axes.set_ylabel("mean loss [nats]")
        legend(axes)
    return figure_of(panels[0])


def _bars(axes: Axes, metrics: Mapping[str, Any], rounded: Mapping[str, Mapping[str, float]]) -> None:
    saved = {name: block(metrics, "after", name, "loss") for name in ("forget", "holdout")}
    names = ["as saved", *rounded]
    for shift, (name, pen) in zip((-0.5, 0.5), (("forget", FORGET), ("holdout", RETAIN)), strict=True):
        heights = [saved[name], *(losses.get(f"{name}_loss") for losses in rounded.values())]
        numbers = [np.nan if height is None else float(height) for height in heights]
        places = np.arange(len(names)) + shift * _BAR
        axes.bar(places, numbers, _BAR, facecolor="white", edgecolor=pen.color, hatch=pen.hatch, label=name)
    known = block(metrics, "before", "forget", "loss")
    if known is not None:
        axes.axhline(float(known), color=GOAL.color, linestyle=GOAL.line, label="forget, before the run")
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel("weights")


def _curves(axes: Axes, curves: Mapping[str, Sequence[float]]) -> None:
    words = {"forget": "rest of the forget set", "control": "control: never seen"}
    for name, pen in (("forget", FORGET), ("control", CONTROL)):
        if name in curves:
            line(axes, range(len(curves[name])), curves[name], pen, words[name])
    axes.set_xlabel("steps of learning a tenth again")
