"""The plots of a certificate's page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from core.certificates.claims import ledger_digest
from core.certificates.page import Illustration
from core.plots import Evidence, NothingToPlot, Plot
from core.plots.inline import inline

_CAPTIONS: Final[Mapping[Plot, str]] = {
    "losses": "Forget and retain loss after each step, and the yardstick: the loss of matched holdout records.",
    "promise": "What the kept steps promised, and what became of it.",
    "hardness": "How much the goals pulled against each other at each step.",
    "layers": "Where in the model they did so before the first step.",
    "membership": "Losses of the forgotten records and of records that the model never saw, before and after.",
    "attacks": "Attempts to bring back what was forgotten.",
}


def illustrations(claims: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> Iterator[Illustration]:
    """Every plot that the claims and the run's step ledger have something for.

    The ledger is drawn only if it is the one whose digest was signed.
    """
    signed = steps if ledger_digest(steps) == claims["ledger"]["sha256"] else ()
    evidence = Evidence(signed, claims["hardness"] or {}, claims["metrics"] or {})
    for plot, caption in _CAPTIONS.items():
        try:
            yield Illustration(caption, inline(plot, evidence))
        except NothingToPlot:
            continue
