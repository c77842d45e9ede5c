"""A plot as part of an HTML page that holds several."""

import re
from typing import Final

from core.plots import Evidence, Plot, draw

_LEFT_OUT: Final = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>\s*", re.DOTALL)
_NAMES: Final = re.compile(r'( id="|href="#|url\(#)')


def inline(plot: Plot, evidence: Evidence) -> str:
    """The plot as one ``svg`` element, without comments and metadata.

    All ids begin with the plot's name: drawings share ids, and on one page a second one would be drawn with the
    shapes of the first. Raises ``NothingToPlot``.
    """
    text = _LEFT_OUT.sub("", draw(plot, evidence))
    _, element, rest = text.partition("<svg")
    return _NAMES.sub(rf"\g<1>{plot}-", element + rest)
