"""The look that all plots share, and the way to SVG."""

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

mpl.rcParams.update(
    {
        "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "0.88",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "hatch.linewidth": 0.6,
        "svg.hashsalt": "unlearning",  # ids from content alone
        "svg.fonttype": "path",  # no font is asked of whoever reads it
    }
)

_MARKERS_A_LINE: Final = 12
_ONE_AT_A_TIME: Final = threading.Lock()
"""matplotlib's text layout is shared by all threads of a process."""


@dataclass(frozen=True, slots=True)
class Pen:
    """How one line or area looks; two pens differ without their colours."""

    color: str
    line: Any = "-"
    marker: str = ""
    hatch: str = ""


FORGET: Final = Pen("#b3400a", "-", "o", "////")
RETAIN: Final = Pen("#0b559f", "--", "s", "\\\\\\\\")
GOAL: Final = Pen("black", ":", "", "")
CONTROL: Final = Pen("0.35", "-.", "^")
PENS: Final[Sequence[Pen]] = (
    Pen("#b3400a", "-", "o"), Pen("#0b559f", "--", "s"), Pen("black", "-.", "^"), Pen("#3a7d34", ":", "D"),
    Pen("#7b4fa3", (0, (5, 1)), "v"), Pen("0.45", (0, (3, 1, 1, 1)), "P"), Pen("#b3400a", (0, (1, 1)), "X"),
    Pen("#0b559f", (0, (7, 2)), "<"), Pen("black", (0, (2, 2)), ">"), Pen("#3a7d34", "-", "*"),
    Pen("#7b4fa3", "-.", "p"), Pen("0.45", "--", "h"),
)  # fmt: skip
"""For as many lines as there are methods."""


def sheet(
    title: str,
    panels: int = 1,
    *,
    height: float = 3.6,
    ratios: Sequence[float] | None = None,
    share_x: bool = True,
) -> list[Axes]:
    """Axes below each other in a figure 7.5 by ``height`` inches with ``title``."""
    figure = Figure(figsize=(7.5, height), layout="constrained")
    FigureCanvasSVG(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    axes = figure.subplots(panels, 1, sharex=share_x, squeeze=False, height_ratios=ratios)
    return list(axes[:, 0])


def figure_of(axes: Axes) -> Figure:
    """The figure that the axes of a ``sheet`` belong to."""
    return cast("Figure", axes.figure)


def line(axes: Axes, x: Sequence[float], y: Sequence[float], pen: Pen, label: str, **more: Any) -> None:
    """One labelled line with a dozen markers at most."""
    every = max(1, -(-len(x) // _MARKERS_A_LINE))
    style = {"color": pen.color, "linestyle": pen.line, "marker": pen.marker, "markersize": 4, "linewidth": 1.4}
    axes.plot(x, y, label=label, markevery=every, **(style | more))


def legend(axes: Axes) -> None:
    """The legend to the right of the axes, where no line can run through it."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), borderaxespad=0.2, handlelength=3.2)


def scale_for(axes: Axes, *numbers: Sequence[float]) -> None:
    """A logarithmic y axis where positive values span more than two decades."""
    values = [value for several in numbers for value in several]
    if values and min(values) > 0 and max(values) > 100 * min(values):
        axes.set_yscale("log")


def as_svg(figure: Figure) -> str:
    """The drawing as text that holds no date, no script and no address but XML's own names."""
    file = io.StringIO()
    about: dict[str, Any] = {"Title": figure.get_suptitle(), **dict.fromkeys(("Date", "Creator", "Format", "Type"))}
    with _ONE_AT_A_TIME:
        figure.savefig(file, format="svg", metadata=about)
    head, _, rest = file.getvalue().partition("<!DOCTYPE")
    return head + rest.partition(">\n")[2]
