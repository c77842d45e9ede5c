"""Which measurements are gates, inside which margins they must lie, and how much it matters when they do not.

The margins are this project's proposal, since no standard exists; docs/evidence.md says where each comes from. A
policy overrides single ones. No numpy here: the web process reads and checks policies as well.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Self

Severity = Literal["required", "important", "advisory", "off"]
SEVERITIES: Final = ("required", "important", "advisory", "off")
"""``required``: without it nothing is proven. ``important``: outside is a failure, in doubt a warning. ``advisory``:
a warning at most. ``off``: measured and not judged."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One gate: the closed margin in which a measurement must lie (None: open on that side), and its severity."""

    group: str
    at_least: float | None = None
    at_most: float | None = None
    severity: Severity = "important"
    always: bool = False
    """Whether every run that unlearns must have measured it: a missing one then counts as not measurable."""
    fixed: bool = False
    """Whether no policy may change it."""


IMAGE_ATTACKS: Final = ("loss", "confidence")
LANGUAGE_ATTACKS: Final = ("loss", "min_k", "min_k_plus")
_ATTACKS: Final = tuple(dict.fromkeys(IMAGE_ATTACKS + LANGUAGE_ATTACKS))

GATES: Final[Mapping[str, Limit]] = {
    "displacement": Limit("G0", at_least=1e-12, severity="required", always=True, fixed=True),
    "promise_kept": Limit("G0", at_least=1.0, severity="required"),
    "gap_closed": Limit("G0", at_least=0.5, always=True),
    "specificity": Limit("G0", at_most=0.001, severity="required", always=True),
    "forget_loss_ratio": Limit("G1", at_least=0.8, at_most=1.2, always=True),
    "forget_accuracy_gap": Limit("G1", at_least=-0.1, at_most=0.1, severity="advisory"),
    "extraction_gap": Limit("G1", at_most=0.05),
    "memorisation_gap": Limit("G1", at_most=0.05),
    "forget_loss_p95_ratio": Limit("G2", at_most=1.0, severity="advisory"),
    **{f"membership_auc_{attack}": Limit("G3", at_least=0.45, at_most=0.55) for attack in _ATTACKS},
    "membership_auc_min_k_plus": Limit("G3", at_least=0.45, at_most=0.55, severity="advisory"),
    **{f"membership_tpr_{attack}": Limit("G3", at_most=0.03, severity="advisory") for attack in _ATTACKS},
    "retain_accuracy_drop": Limit("G4", at_most=0.01, always=True),
    "holdout_accuracy_drop": Limit("G4", at_most=0.01),
    "worst_class_drop": Limit("G4", at_most=0.03),
    "retain_perplexity_ratio": Limit("G4", at_most=1.03),
    "int8_recovery": Limit("G5", at_most=0.1, severity="advisory"),
    "int4_recovery": Limit("G5", at_most=0.1, severity="advisory"),
    "relearn_speed": Limit("G5", at_most=1.2, severity="advisory"),
    "earlier_deletions": Limit("G6", at_least=0.8, severity="advisory"),
}
"""In the order in which they are shown. A measurement that does not apply to a run (a method that promises nothing
has no ``promise_kept``) is left out of its measurements, and is then no gate, unless it is ``always`` needed."""

INFORMATIVE: Final = frozenset({"G1", "G3"})
"""Groups whose gates the unchanged weights should not pass: one that they pass cannot tell before from after."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an override: a JSON pointer below the overrides, and words."""

    pointer: str
    message: str


class BadLimits(ValueError):
    """Overrides that cannot be used; ``faults`` names each place."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(f"{fault.pointer}: {fault.message}" for fault in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Limits:
    """Every gate's limit: the table's, less what is overridden."""

    overrides: Mapping[str, Mapping[str, float | str | None]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """Limits from ``{gate: {"at_least", "at_most", "severity"}}``; what is left out is the table's.

        A margin's null opens that side. Raises ``BadLimits``.
        """
        faults = tuple(_faults(raw))
        if faults:
            raise BadLimits(faults)
        return cls({name: dict(override) for name, override in raw.items()})

    def as_json(self) -> dict[str, dict[str, float | str | None]]:
        """The overrides alone, so that a later table's defaults reach policies that did not touch them."""
        return {name: dict(override) for name, override in self.overrides.items()}

    def of(self, name: str) -> Limit:
        """The limit of a gate. Raises ``KeyError`` for a name that is none."""
        return _overridden(GATES[name], self.overrides.get(name, {}))

    def with_default(self, name: str, **margin: float) -> Self:
        """The same, with another default for a gate's margin: an override of that edge stays."""
        merged = {**margin, **self.overrides.get(name, {})}
        return replace(self, overrides={**self.overrides, name: merged})


def _overridden(limit: Limit, override: Mapping[str, Any]) -> Limit:
    return replace(limit, **override)


_FIELDS: Final = ("at_least", "at_most", "severity")


def _faults(raw: Any) -> Iterator[Fault]:
    if not isinstance(raw, Mapping):
        yield Fault("", "An object is needed: gate name to margin.")
        return
    for name, override in raw.items():
        limit = GATES.get(name) if isinstance(name, str) else None
        where = f"/{str(name).replace('~', '~0').replace('/', '~1')}"
        if limit is None:
            yield Fault(where, f"There is no such gate; there are {', '.join(GATES)}.")
        elif not isinstance(override, Mapping):
            yield Fault(where, "An object with at_least, at_most, severity is needed.")
        elif limit.fixed:
            yield Fault(where, "This gate cannot be changed: a run that changed nothing is never published.")
        else:
            yield from _faults_of(where, limit, override)


def _faults_of(where: str, limit: Limit, override: Mapping[Any, Any]) -> Iterator[Fault]:
    unknown = [key for key in override if key not in _FIELDS]
    yield from (Fault(f"{where}/{key}", "There is no such setting.") for key in unknown)
    wrong = [key for key in ("at_least", "at_most") if key in override and not _is_edge(override[key])]
    yield from (Fault(f"{where}/{key}", "A finite number or null is needed.") for key in wrong)
    if override.get("severity", limit.severity) not in SEVERITIES:
        wrong.append("severity")
        yield Fault(f"{where}/severity", f"One of {', '.join(SEVERITIES)} is needed.")
    if unknown or wrong:
        return
    meant = _overridden(limit, override)
    if meant.at_least is None and meant.at_most is None:
        yield Fault(where, 'A margin needs at_least or at_most; severity "off" leaves the gate out.')
    elif meant.at_least is not None and meant.at_most is not None and meant.at_least > meant.at_most:
        yield Fault(where, f"No value is at least {meant.at_least:g} and at most {meant.at_most:g}.")


def _is_edge(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
