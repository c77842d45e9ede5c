"""A certificate or report as one HTML page that a person can print. It loads nothing from anywhere."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from core.platform.clock import rfc3339

Json = Mapping[str, Any]
SETS: Final = ("forget", "retain", "holdout")
_TITLES: Final = {"certificate": "Certificate of unlearning", "report": "Report on an unlearning run"}


@dataclass(frozen=True, slots=True)
class Illustration:
    """A drawing of our own making: ``svg`` is put into the page as it is, so it must never hold a caller's text raw."""

    caption: str
    svg: str


def render(claims: Json, *, jws: str, kid: str, illustrations: Iterable[Illustration] = ()) -> str:
    """The page. Everything in ``claims`` is escaped."""
    return _ENVIRONMENT.get_template("certificate.html").render(
        title=_TITLES[claims["kind"]],
        claims=claims,
        issued=rfc3339(datetime.fromtimestamp(claims["iat"], UTC)),
        facts=list(_facts(claims)),
        digests=list(_digests(claims)),
        measured=list(_measured(claims["metrics"] or {})),
        controls=list(_controls(claims["metrics"] or {})),
        illustrations=list(illustrations),
        jws=jws,
        kid=kid,
    )


def _facts(claims: Json) -> Iterator[tuple[str, str]]:
    run, published, records = claims["run"], claims["published"], claims["records"]
    yield "Model", f"{claims['model']['name']} ({claims['model']['task']})"
    yield "Base version", str(claims["base"]["version"])
    yield "Published version", str(published["version"]) if published else "none"
    yield "Run", f"{claims['sub']}: {run['status']}, {run['stop_reason'] or 'no result'}, attempt {run['attempt']}"
    yield "Finished", run["finished_at"]
    yield "Deletion requests", ", ".join(f"{one['id']} ({one['received_at']})" for one in claims["deletion_requests"])
    yield "Records", f"{records['count']} to be forgotten, {records['retained']} retained"
    yield "Method", f"{claims['method']}, seed {claims['seed']}, policy {claims['policy']['name']}"
    yield "Hardness", str((claims["hardness"] or {}).get("verdict") or "not assessed")
    ledger = claims["ledger"]
    gains = f"promised gain {ledger['promised_forget_gain']:.4g}, realised {ledger['realised_forget_gain']:.4g}"
    yield "Steps", f"{ledger['steps']}, {gains}"
    code, worker = claims["code"], claims["worker"] or {}
    yield "Code", f"{code['version']}, commit {code['commit'] or 'unknown'}" if code else "unknown"
    yield "Worker", ", ".join(f"{name} {value}" for name, value in worker.items()) or "unknown"


def _digests(claims: Json) -> Iterator[tuple[str, str]]:
    yield "Base weights", claims["base"]["digest"]
    if claims["published"]:
        yield "Published weights", claims["published"]["digest"]
    yield "Data set", claims["dataset"]["fingerprint"]
    for when in ("before", "after"):
        if claims["dataset"][when]:
            yield f"Trained on, {when}", claims["dataset"][when]
    if claims["records"]["root"]:
        yield "Root over record digests", claims["records"]["root"]
    yield "Step ledger", claims["ledger"]["sha256"]


def _measured(metrics: Json) -> Iterator[tuple[str, str, float | None, float | None]]:
    before, after = metrics.get("before") or {}, metrics.get("after") or {}
    for kind in SETS:
        first, second = before.get(kind) or {}, after.get(kind) or {}
        for name in dict.fromkeys((*first, *second)):
            yield kind, name, first.get(name), second.get(name)
    if "membership_auc" in after or "membership_auc" in before:
        yield "forget", "membership_auc", before.get("membership_auc"), after.get("membership_auc")


def _controls(metrics: Json) -> Iterator[tuple[str, str]]:
    words = {"no_op": "unchanged weights", "placebo": "records that were never to be forgotten"}
    controls = metrics.get("controls") or {}
    for name, meaning in words.items():
        if name in controls:
            yield meaning, str(controls[name].get("verdict") or "none")


def _number(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _margin(gate: Json) -> str:
    low, high = gate["at_least"], gate["at_most"]
    if low is None:
        return f"at most {_number(high)}"
    return f"at least {_number(low)}" if high is None else f"{_number(low)} to {_number(high)}"


_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("core.certificates", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_ENVIRONMENT.filters |= {"number": _number, "margin": _margin, "markup": Markup}
