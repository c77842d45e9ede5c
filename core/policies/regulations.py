"""How long the law gives for a deletion: the regulations that are built in, and what a policy may add.

Sources: GDPR Art. 12(3) (one month from receipt, two further months where necessary); 11 CCR § 7021(b) for the CCPA
(45 calendar days from receipt, 45 more with notice).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Term:
    """A stretch of the calendar: whole months first, then days."""

    months: int = 0
    days: int = 0


@dataclass(frozen=True, slots=True)
class Regulation:
    """A term that runs from receipt, and by how much it may be extended once; None: not at all."""

    term: Term
    extension: Term | None


GDPR: Final = Regulation(Term(months=1), Term(months=2))
CCPA: Final = Regulation(Term(days=45), Term(days=45))
BUILT_IN: Final[Mapping[str, Regulation]] = {"gdpr": GDPR, "ccpa": CCPA}


def in_force(custom: Mapping[str, Mapping[str, int]]) -> Mapping[str, Regulation]:
    """Every regulation by name: those built in, and a policy's own (``{"days": …, "extension_days": …}``)."""
    own = {
        name: Regulation(Term(days=terms["days"]), _extension(terms.get("extension_days", 0)))
        for name, terms in custom.items()
    }
    return {**own, **BUILT_IN}


def _extension(days: int) -> Term | None:
    return Term(days=days) if days else None


def meant_by(reason: str, known: Mapping[str, Regulation]) -> str | None:
    """The regulation that a reason names by its beginning: ``gdpr_art_17`` means ``gdpr``. None when it names none."""
    name = reason.partition("_")[0]
    return name if name in known else None
