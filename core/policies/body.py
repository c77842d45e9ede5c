"""What a policy says. Every default here is the built-in ``default`` policy."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from core.evaluation.limits import BadLimits, Limits
from core.evaluation.verdict import VERDICTS
from core.platform.errors import InvalidInput, Problem
from core.policies.regulations import BUILT_IN
from core.unlearning.job import HAMU_Q, METHODS, PANELS, REFERENCES, Parameters

QUOTA_RULES: Final = ("gradient_norm", "uniform", "softmax")
BLOCKS: Final = ("tensor", "layer", "model")
DEVICES: Final = ("one", "all")
TARGETS: Final[Mapping[str, str]] = {
    "membership_auc": "membership_auc_tolerance",
    "forget_loss_ratio": "forget_target_ratio",
    "retain_accuracy_drop": "retain_accuracy_budget",
    "holdout_accuracy_drop": "holdout_accuracy_budget",
}
"""The results that a policy may ask for, and the parameter in which a run is told of each."""
STOP_RULES: Final = ("sign_aware", "two_sided", "none")
STOP_REASONS: Final = (
    "targets_unmet",
    "max_steps",
    "collateral_forgetting_unavoidable",
    "infeasible",
    "retain_budget_exhausted",
    "non_finite",
)
"""Endings that a policy may send to a person; ``target_reached`` and ``cancelled`` need no decision."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How deletions of a model are carried out."""

    parameters: Parameters = field(default_factory=Parameters)
    batch_window_s: float = 0
    """A pending request waits up to this long for others, to be unlearned with them in one run."""
    batch_size: int = 0
    """As soon as so many people wait, the window is over; 0: it ends by time alone."""
    min_subjects: int = 1
    """The privacy floor: no new version forgets fewer people than this, unless a deadline forces it."""
    force_before_due_s: float = 7 * 86_400
    """So long before a request is due it waits for nobody any more. The default leaves room for a run that is at work
    and for the request's own, each with three attempts of a day."""
    escalate_at: tuple[float, ...] = (0.5, 0.8, 1.0)
    """Shares of a request's term at which it is announced that its deadline approaches, in order."""
    regulations: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    """Terms of law beside those built in: ``{"lgpd": {"days": 15, "extension_days": 0}}``."""
    production_follows: bool = False
    """Whether publishing moves the alias ``production`` along with ``latest``."""
    needs_review_on: tuple[str, ...] = ("collateral_forgetting_unavoidable", "infeasible", "retain_budget_exhausted")
    """Stop reasons after which a person decides whether the result is published, whatever the verdict."""
    limits: Limits = field(default_factory=Limits)
    """Margins and severities of the gates."""
    publish_on: tuple[str, ...] = ("passed", "passed_with_warnings")
    """Verdicts that publish by themselves. Every verdict is in one of this and the next two."""
    review_on: tuple[str, ...] = ("inconclusive", "failed")
    """Verdicts after which a person decides."""
    fail_on: tuple[str, ...] = ()
    """Verdicts that end the run as failed."""
    retention_days: int = 30
    """How long the files of a superseded version are kept that holds what was unlearned since."""
    recheck_days: int = 30
    """How long records that a run forgot may still be read, to see that later runs leave them forgotten; 0: never."""
    originals_days: int = 0
    """How long a data set's files from before its erased records were taken out are kept at least, whatever
    ``recheck_days`` says; as long as records may be read they are kept anyway."""

    @property
    def targets(self) -> dict[str, float]:
        """What a run is to reach: AUC's distance from 0.5, share of the yardstick, largest falls of accuracy."""
        return {name: getattr(self.parameters, parameter) for name, parameter in TARGETS.items()}


def as_json(policy: Policy) -> dict[str, Any]:
    """The policy as it is stored and shown."""
    lists = {name: list(getattr(policy, name)) for name in _LISTS}
    return {**dataclasses.asdict(policy), **lists, "targets": policy.targets, "limits": policy.limits.as_json()}


def from_json(raw: Mapping[str, Any]) -> Policy:
    """The policy of a stored or submitted object; what it leaves out is the default.

    Raises ``InvalidInput`` that points at each unknown field and each value out of range.
    """
    raw, problems = _with_targets(raw)
    problems += _unknown(raw, Policy, "")
    if not isinstance(raw.get("parameters", {}), Mapping):
        raise _refused([Problem("/parameters", "wrong_type", "An object is needed.")])
    parameters: dict[str, Any] = {**raw.get("parameters", {})}
    problems += _unknown(parameters, Parameters, "/parameters")
    for name, value in parameters.items():
        problems += _checked(f"/parameters/{name}", value, _PARAMETERS.get(name))
    for name, value in raw.items():
        problems += _checked(f"/{name}", value, _FIELDS.get(name))
    problems = problems or _misruled(raw)
    limits = _limits(raw.get("limits", {}), problems)
    problems += _not_together(parameters)
    if problems:
        raise _refused(problems)
    own: dict[str, Any] = {name: tuple(value) if name in _LISTS else value for name, value in raw.items()}
    if "escalate_at" in own:
        own["escalate_at"] = tuple(sorted(set(own["escalate_at"])))
    own |= {"parameters": Parameters(**parameters), "limits": limits}
    return Policy(**own)


def _limits(raw: Any, problems: list[Problem]) -> Limits:
    """The overrides; what is wrong with them is added to ``problems``."""
    try:
        return Limits.from_json(raw)
    except BadLimits as refused:
        problems += [Problem(f"/limits{fault.pointer}", "bad_limit", fault.message) for fault in refused.faults]
        return Limits()


def _with_targets(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """``raw`` with its targets among the parameters, and what is wrong with them."""
    rest: dict[str, Any] = {**raw}
    targets, parameters = rest.pop("targets", {}), rest.get("parameters", {})
    if not isinstance(targets, Mapping):
        return rest, [Problem("/targets", "wrong_type", "An object is needed.")]
    if not targets or not isinstance(parameters, Mapping):
        return rest, []
    asked, told = cast("Mapping[str, Any]", targets), cast("Mapping[str, Any]", parameters)
    problems: list[Problem] = []
    for name, value in asked.items():
        problems += _target_problems(name, value, told)
    wanted = {TARGETS[name]: value for name, value in asked.items() if name in TARGETS}
    return {**rest, "parameters": {**told, **({} if problems else wanted)}}, problems


def _target_problems(name: str, value: Any, parameters: Mapping[str, Any]) -> list[Problem]:
    pointer, parameter = f"/targets/{_escaped(name)}", TARGETS.get(name)
    if parameter is None:
        return [Problem(pointer, "unknown_field", f"There is no such target; there are {', '.join(TARGETS)}.")]
    if parameters.get(parameter, value) != value:
        return [Problem(pointer, "said_twice", f"The parameter {parameter} says otherwise; give one of them.")]
    return _checked(pointer, value, _PARAMETERS[parameter])


_RULINGS: Final = ("publish_on", "review_on", "fail_on")
_LISTS: Final = (*_RULINGS, "needs_review_on", "escalate_at")


def _misruled(raw: Mapping[str, Any]) -> list[Problem]:
    """Verdicts that are in none or in several of the three lists, lists left out being the default's."""
    meant = {name: list(raw.get(name, getattr(Policy(), name))) for name in _RULINGS}
    where = next((name for name in _RULINGS if name in raw), _RULINGS[0])
    words = " in exactly one of publish_on, review_on, fail_on."
    return [
        Problem(f"/{where}", "verdict_not_in_one_list", f"{verdict} must be{words}")
        for verdict in VERDICTS
        if sum(listed.count(verdict) for listed in meant.values()) != 1
    ]


@dataclass(frozen=True, slots=True)
class _Rule:
    says: str
    holds: Callable[[Any], bool]


def _number(low: float, high: float, *, open_ends: bool = False) -> _Rule:
    def holds(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return low < value < high if open_ends else low <= value <= high

    between = "between, but not at," if open_ends else "from"
    return _Rule(f"A number {between} {low:g} {'and' if open_ends else 'to'} {high:g} is needed.", holds)


def _whole(low: int, high: int) -> _Rule:
    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return _Rule(f"A whole number from {low} to {high} is needed.", holds)


def _one_of(choices: tuple[str, ...]) -> _Rule:
    return _Rule(f"One of {', '.join(choices)} is needed.", lambda value: isinstance(value, str) and value in choices)


def _some_of(choices: tuple[str, ...]) -> _Rule:
    def holds(value: Any) -> bool:
        return isinstance(value, list | tuple) and all(one in choices for one in value)  # pyright: ignore[reportUnknownVariableType]

    return _Rule(f"A list of {', '.join(choices)} is needed.", holds)


def _shares(most: int) -> _Rule:
    def holds(value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) <= most and all(map(_is_share, value))  # pyright: ignore[reportUnknownArgumentType]

    return _Rule(f"A list of at most {most} numbers above 0 and up to 1 is needed.", holds)


def _is_share(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 < value <= 1


def _regulations(most: int) -> _Rule:
    def holds(value: Any) -> bool:
        return isinstance(value, dict) and len(value) <= most and all(map(_is_regulation, value.items()))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]

    says = (
        f'At most {most} of {{"name": {{"days": 1 to 3650, "extension_days": 0 to 3650}}}} are needed, with names of '
        f"a-z, 0-9 and '-' other than {', '.join(BUILT_IN)}."
    )
    return _Rule(says, holds)


def _is_regulation(item: tuple[Any, Any]) -> bool:
    name, terms = item
    if not isinstance(name, str) or not _REGULATION.fullmatch(name) or name in BUILT_IN or not isinstance(terms, dict):
        return False
    days, more = _whole(1, 3650), _whole(0, 3650)
    given = cast(Mapping[Any, Any], terms)
    known = given.keys() <= {"days", "extension_days"}
    return known and days.holds(given.get("days")) and more.holds(given.get("extension_days", 0))


_REGULATION: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PARAMETERS: Final[Mapping[str, _Rule]] = {
    "method": _one_of(METHODS),
    "learning_rate": _number(0, 10, open_ends=True),
    "quota_ratio": _number(0, 1, open_ends=True),
    "quota": _one_of(QUOTA_RULES),
    "block": _one_of(BLOCKS),
    "stop_rule": _one_of(STOP_RULES),
    "max_steps": _whole(1, 100_000),
    "batch_size": _whole(0, 65_536),
    "micro_batch_size": _whole(1, 65_536),
    "max_grad_norm": _number(0, 1e6, open_ends=True),
    "forget_target_ratio": _number(0, 10, open_ends=True),
    "retain_accuracy_budget": _number(0, 1),
    "holdout_accuracy_budget": _number(0, 1),
    "membership_auc_tolerance": _number(0, 0.5),
    "max_evaluation_records": _whole(1, 10_000_000),
    "devices": _one_of(DEVICES),
    "seed": _whole(0, 2**63 - 1),
    "epochs": _whole(1, 100_000),
    "weight_decay": _number(0, 1),
    "retain_weight": _number(0, 1e6),
    "npo_beta": _number(0, 1e6, open_ends=True),
    "simnpo_beta": _number(0, 1e6, open_ends=True),
    "simnpo_gamma": _number(0, 1e6),
    "scrub_alpha": _number(0, 1e6),
    "scrub_gamma": _number(0, 1e6),
    "panel": _one_of(PANELS),
    "generated_records": _whole(0, 10_000),
    "reference": _one_of(REFERENCES),
}
_FIELDS: Final[Mapping[str, _Rule]] = {
    "batch_window_s": _number(0, 30 * 86_400),
    "batch_size": _whole(0, 1_000_000),
    "min_subjects": _whole(1, 1_000_000),
    "force_before_due_s": _number(0, 365 * 86_400),
    "escalate_at": _shares(10),
    "regulations": _regulations(50),
    "production_follows": _Rule("true or false is needed.", lambda value: isinstance(value, bool)),
    "needs_review_on": _some_of(STOP_REASONS),
    "publish_on": _some_of(tuple(verdict for verdict in VERDICTS if verdict != "failed")),
    "review_on": _some_of(VERDICTS),
    "fail_on": _some_of(VERDICTS),
    "retention_days": _whole(0, 36_500),
    "recheck_days": _whole(0, 36_500),
    "originals_days": _whole(0, 36_500),
}


def _unknown(raw: Mapping[str, Any], shape: type[Policy] | type[Parameters], where: str) -> list[Problem]:
    known = {one.name for one in dataclasses.fields(shape)}
    return [
        Problem(f"{where}/{_escaped(name)}", "unknown_field", "There is no such setting.")
        for name in raw
        if name not in known
    ]


def _checked(pointer: str, value: Any, rule: _Rule | None) -> list[Problem]:
    if rule is None or rule.holds(value):
        return []
    return [Problem(pointer, "out_of_range", rule.says)]


def _not_together(parameters: Mapping[str, Any]) -> list[Problem]:
    method = parameters.get("method", HAMU_Q)
    if parameters.get("devices") != "all" or method == HAMU_Q:
        return []
    says = f"Only {HAMU_Q} can be divided among devices; use one."
    return [Problem("/parameters/devices", "out_of_range", says)]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _refused(problems: list[Problem]) -> InvalidInput:
    return InvalidInput("The policy is not acceptable.", problems)
