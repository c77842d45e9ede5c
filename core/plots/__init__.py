"""Pictures of a run as SVG, one plot a file: the file's name is the plot's, ``figure`` draws it.

Whatever is drawn can be read in black and white: lines differ in style and marker, areas in hatching. matplotlib is
imported with the first plot, so that a web process starts without it.
"""

from importlib import import_module
from typing import Final, Literal, Protocol, cast, get_args

from core.plots.evidence import Evidence, NothingToPlot

__all__ = ["PLOTS", "Evidence", "NothingToPlot", "Plot", "draw"]

Plot = Literal["attacks", "hardness", "layers", "losses", "membership", "promise"]
PLOTS: Final[tuple[Plot, ...]] = get_args(Plot)


class _PlotModule(Protocol):
    """What every plot's file holds."""

    def figure(self, evidence: Evidence) -> object:
        """The drawing. Raises ``NothingToPlot`` when the evidence does not hold what it shows."""
        ...


def draw(plot: Plot, evidence: Evidence) -> str:
    """One plot as an SVG document: no script, no link, no date; equal evidence gives equal text.

    Raises ``NothingToPlot`` when the evidence does not hold what it shows.
    """
    drawing = import_module("core.plots.drawing")
    module = cast("_PlotModule", import_module(f"core.plots.{plot}"))
    return cast("str", drawing.as_svg(module.figure(evidence)))
