"""From gates to one word about a run, with its reasons. Who publishes on which word is the policy's business."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from core.evaluation.gates import Gate

Word = Literal["passed", "passed_with_warnings", "failed", "inconclusive"]
VERDICTS: Final[tuple[Word, ...]] = ("passed", "passed_with_warnings", "failed", "inconclusive")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The word, and a short sentence for everything that kept it from being better or limits what it says."""

    verdict: Word
    reasons: tuple[str, ...]


def verdict(gates: Sequence[Gate], *, matched: bool) -> Verdict:
    """Judge a run by its gates; ``matched``: there is a holdout that matches the forget set.

    ``failed``: a required or important gate failed. ``inconclusive``: otherwise, when there is no matched holdout, or a
    required gate is undecided, or a gate that every run needs could not be measured at all, or there is no gate.
    ``passed_with_warnings``: otherwise, when an important gate is undecided or an advisory one not passed. ``passed``:
    otherwise. Gates that the unchanged weights pass as well are named in the reasons and change no word.
    """
    found = {effect: [gate for gate in gates if _effect(gate) == effect] for effect in _EFFECTS}
    missing = () if matched and gates else (_NO_HOLDOUT if gates else _NO_GATES,)
    sentences = {effect: tuple(_sentence(gate) for gate in found[effect]) for effect in _EFFECTS}
    reasons = (*sentences["fails"], *missing, *sentences["leaves open"], *sentences["warns"], *_uninformative(gates))
    if found["fails"]:
        return Verdict("failed", reasons)
    if missing or found["leaves open"]:
        return Verdict("inconclusive", reasons)
    return Verdict("passed_with_warnings" if found["warns"] else "passed", reasons)


_EFFECTS: Final = ("fails", "leaves open", "warns", "lets pass")


def _effect(gate: Gate) -> str:
    if gate.status == "passed":
        return "lets pass"
    if gate.status == "failed" and gate.severity in ("required", "important"):
        return "fails"
    if gate.status == "undecided" and (gate.severity == "required" or (gate.always and not gate.measured)):
        return "leaves open"
    return "warns"


_NO_HOLDOUT: Final = "There is no matched holdout to compare the forget set with."
_NO_GATES: Final = "Nothing was judged."


def _sentence(gate: Gate) -> str:
    if not gate.measured:
        return f"{gate.name} could not be measured."
    if gate.status == "failed":
        return f"{gate.name} is {_interval(gate)}, outside its margin of {_margin(gate)}."
    return f"{gate.name} is {_interval(gate)}: too few records to tell whether it is {_margin(gate)}."


def _uninformative(gates: Iterable[Gate]) -> tuple[str, ...]:
    return tuple(
        f"{gate.name} was {_margin(gate)} before the run already, so it cannot tell before from after."
        for gate in gates
        if gate.status == "passed" and not gate.informative
    )


def _interval(gate: Gate) -> str:
    if gate.low == gate.high:
        return _number(gate.value)
    if math.isinf(gate.low) and math.isinf(gate.high):
        return f"{_number(gate.value)}, give or take anything"
    return f"{_number(gate.value)} ({_number(gate.low)} to {_number(gate.high)})"


def _margin(gate: Gate) -> str:
    if gate.at_least is None:
        return f"at most {_number(gate.at_most)}"
    if gate.at_most is None:
        return f"at least {_number(gate.at_least)}"
    return f"{_number(gate.at_least)} to {_number(gate.at_most)}"


def _number(value: float | None) -> str:
    return "unknown" if value is None or math.isnan(value) else f"{value:.3g}"
