"""The body of a create request, read strictly: nothing is coerced, and each problem is named by its field.

Generic schema libraries take numbers for times, braces around UUIDs and much else; the standard does not.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeGuard, cast
from urllib.parse import urlsplit

from core.deletions.commands import Identity
from core.opendsr import strict_json
from core.opendsr.errors import InvalidSubjectRequest
from core.opendsr.identities import PAIRS
from core.platform.errors import Problem
from core.webhooks.addresses import never_called

MOST_IDENTITIES: Final = 1000
MOST_CALLBACKS: Final = 10
LONGEST_URL: Final = 2048
REQUEST_TYPES: Final = ("erasure",)
_KNOWN_TYPES: Final = ("erasure", "access", "portability")

_UUID4: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TIME: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}):(\d{2})(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d{2}):(\d{2}))", re.ASCII
)
_VERSION: Final = re.compile(r"(\d{1,9})(\.\d{1,9}){0,2}", re.ASCII)
_PRINTABLE: Final = re.compile(r"[^\x00-\x20\x7f\\]+")


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be asked for here."""

    domain: str
    """Our key in ``extensions``."""
    regulations: frozenset[str]
    max_hold_s: float
    max_ids: int
    allow_http: bool
    legacy: bool = False
    """The routes of OpenGDPR 1.0: no ``regulation`` is needed, and older versions are taken."""


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """An erasure as a controller asks for it. ``value``: the whole JSON value, for comparison with a repetition."""

    subject_request_id: str
    regulation: str
    submitted_time: datetime
    identities: tuple[Identity, ...]
    record_ids: tuple[str, ...]
    model_ids: tuple[str, ...]
    hold_s: int | None
    callback_urls: tuple[str, ...]
    value: Any


def parse(body: bytes, rules: Rules) -> CreateRequest:
    """What the bytes ask for. Raises ``InvalidSubjectRequest`` with a problem for each field at fault."""
    try:
        value = strict_json.read(body)
    except strict_json.NotStrict as error:
        raise InvalidSubjectRequest(str(error)) from None
    if not isinstance(value, dict):
        raise InvalidSubjectRequest("The body must be one JSON object.")
    reader = _Reader(cast("dict[str, Any]", value), rules)
    made = reader.whole()
    if reader.problems or made is None:
        raise InvalidSubjectRequest("The request is not acceptable.", reader.problems)
    return made


def is_request_id(text: str) -> bool:
    """Whether it is a UUID of version 4 in lower case, hyphenated, and nothing else."""
    return _UUID4.fullmatch(text) is not None


def read_time(text: str) -> datetime | None:
    """An RFC 3339 date-time with offset, in UTC; None when it is none. Digits below the microsecond are dropped.

    A leap second is the second before it, for our clocks know none.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    day, minutes, seconds, fraction, sign, hours_off, minutes_off = match.groups()
    if sign is not None and (int(hours_off) > 23 or int(minutes_off) > 59):
        return None
    offset = f"{sign}{hours_off}:{minutes_off}" if sign else "+00:00"
    whole = "59" if seconds == "60" else seconds
    try:
        at = datetime.fromisoformat(f"{day}T{minutes}:{whole}.{(fraction or '0')[:6].ljust(6, '0')}{offset}")
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


class _Reader:
    """Reads field by field and goes on after a problem, so that the caller hears of all of them at once."""

    def __init__(self, value: dict[str, Any], rules: Rules) -> None:
        self._value = value
        self._rules = rules
        self.problems: list[Problem] = []

    def whole(self) -> CreateRequest | None:
        subject_request_id = self._text("subject_request_id", _uuid_rule)
        regulation = self._regulation()
        self._text("subject_request_type", _type_rule)
        submitted = self._text("submitted_time", _time_rule)
        self._version()
        own = self._own_extension()
        record_ids = self._ids(own, "record_ids", self._rules.max_ids)
        model_ids = self._ids(own, "model_ids", self._rules.max_ids)
        if own.get("model_ids") == []:
            self._wrong(f"{self._place}.model_ids", "invalid_value", "must name at least one model")
        hold_s = self._hold(own)
        identities = self._identities(optional=bool(record_ids))
        callback_urls = self._callbacks()
        if len(identities) + len(record_ids or ()) > self._rules.max_ids:
            self._wrong(
                f"{self._place}.record_ids", "too_many", f"a request takes at most {self._rules.max_ids} ids in all"
            )
        at = read_time(submitted) if submitted is not None else None
        if self.problems or subject_request_id is None or regulation is None or at is None:
            return None
        return CreateRequest(
            subject_request_id=subject_request_id,
            regulation=regulation,
            submitted_time=at,
            identities=identities,
            record_ids=record_ids or (),
            model_ids=model_ids or (),
            hold_s=hold_s,
            callback_urls=callback_urls,
            value=self._value,
        )

    @property
    def _place(self) -> str:
        return f'extensions["{self._rules.domain}"]'

    def _wrong(self, field: str, code: str, rule: str) -> None:
        self.problems.append(Problem(field, code, rule))

    def _text(self, field: str, rule: Callable[[str], tuple[str, str] | None]) -> str | None:
        """A required text that keeps ``rule``, which answers with (code, rule in words) where it is broken."""
        value = self._value.get(field)
        if value is None:
            self._wrong(field, "required", "is required")
        elif not isinstance(value, str):
            self._wrong(field, "invalid_type", "must be a string")
        else:
            broken = rule(value)
            if broken is None:
                return value
            self._wrong(field, *broken)
        return None

    def _regulation(self) -> str | None:
        if self._rules.legacy and self._value.get("regulation") is None:
            return "gdpr"
        return self._text("regulation", _one_of(self._rules.regulations))

    def _version(self) -> None:
        if self._value.get("api_version") is not None:
            self._text("api_version", _legacy_version_rule if self._rules.legacy else _version_rule)

    def _own_extension(self) -> dict[str, Any]:
        extensions = self._object(self._value.get("extensions"), "extensions")
        return self._object(extensions.get(self._rules.domain), self._place)

    def _object(self, value: object, field: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._wrong(field, "invalid_type", "must be an object")
            return {}
        return cast("dict[str, Any]", value)

    def _list(self, value: object, field: str, most: int) -> list[Any] | None:
        if value is None:
            return None
        if not isinstance(value, list):
            self._wrong(field, "invalid_type", "must be an array")
            return None
        found = cast("list[Any]", value)
        if len(found) > most:
            self._wrong(field, "too_many", f"must have at most {most} items")
            return None
        return found

    def _ids(self, own: dict[str, Any], key: str, most: int) -> tuple[str, ...] | None:
        field = f"{self._place}.{key}"
        found = self._list(own.get(key), field, most)
        if found is None:
            return None
        for place, one in enumerate(found):
            if not _is_text(one):
                self._wrong(f"{field}[{place}]", "invalid_type", "must be a string that is not empty")
        return tuple(dict.fromkeys(one for one in found if _is_text(one)))

    def _hold(self, own: dict[str, Any]) -> int | None:
        value = own.get("hold_seconds")
        field = f"{self._place}.hold_seconds"
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            self._wrong(field, "invalid_type", "must be an integer")
        elif not 0 <= value <= self._rules.max_hold_s:
            self._wrong(field, "invalid_value", f"must be from 0 to {self._rules.max_hold_s:g}")
        else:
            return value
        return None

    def _identities(self, *, optional: bool) -> tuple[Identity, ...]:
        value = self._value.get("subject_identities")
        if value is None and not optional:
            self._wrong("subject_identities", "required", "is required")
        found = self._list(value, "subject_identities", MOST_IDENTITIES)
        if found is not None and not found and not optional:
            self._wrong("subject_identities", "invalid_value", "must have at least one item")
        read = [self._identity(one, f"subject_identities[{place}]") for place, one in enumerate(found or ())]
        return tuple(dict.fromkeys(one for one in read if one is not None))

    def _identity(self, value: object, field: str) -> Identity | None:
        if not isinstance(value, dict):
            self._wrong(field, "invalid_type", "must be an object")
            return None
        members = cast("dict[str, Any]", value)
        texts = [self._member(members, field, name) for name in ("identity_type", "identity_format", "identity_value")]
        if not all(_is_text(one) for one in texts):
            return None
        kind, form, content = (str(one) for one in texts)
        reads = PAIRS.get((kind, form))
        if reads is None:
            self._wrong(field, "unsupported", "has a pair of identity_type and identity_format that is not supported")
            return None
        identity = reads(content)
        if identity is None:
            words = "must be 64 hexadecimal digits" if form == "sha256" else "must not be blank"
            self._wrong(f"{field}.identity_value", "invalid_value", words)
        return identity

    def _member(self, members: dict[str, Any], field: str, name: str) -> object:
        value = members.get(name)
        if value is None:
            self._wrong(f"{field}.{name}", "required", "is required")
        elif not _is_text(value):
            self._wrong(f"{field}.{name}", "invalid_type", "must be a string that is not empty")
        return value

    def _callbacks(self) -> tuple[str, ...]:
        found = self._list(self._value.get("status_callback_urls"), "status_callback_urls", MOST_CALLBACKS) or []
        for place, one in enumerate(found):
            broken = _url_rule(one, allow_http=self._rules.allow_http) if isinstance(one, str) else "must be a string"
            if broken is not None:
                code = "invalid_value" if isinstance(one, str) else "invalid_type"
                self._wrong(f"status_callback_urls[{place}]", code, broken)
        return tuple(dict.fromkeys(one for one in found if isinstance(one, str)))


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value != ""


def _uuid_rule(text: str) -> tuple[str, str] | None:
    return None if is_request_id(text) else ("invalid_value", "must be a UUID of version 4 in lower case")


def _time_rule(text: str) -> tuple[str, str] | None:
    return None if read_time(text) is not None else ("invalid_value", "must be an RFC 3339 date-time with an offset")


def _type_rule(text: str) -> tuple[str, str] | None:
    if text in REQUEST_TYPES:
        return None
    if text in _KNOWN_TYPES:
        return "unsupported", f"must be {REQUEST_TYPES[0]}: no other type is supported here"
    return "invalid_value", f"must be one of {', '.join(_KNOWN_TYPES)}"


def _one_of(known: Collection[str]) -> Callable[[str], tuple[str, str] | None]:
    return lambda text: None if text in known else ("unsupported", f"must be one of {', '.join(sorted(known))}")


def _version_rule(text: str) -> tuple[str, str] | None:
    match = _VERSION.fullmatch(text)
    return None if match and match[1] == "2" else ("unsupported", "must be 2 or 2.x")


def _legacy_version_rule(text: str) -> tuple[str, str] | None:
    match = _VERSION.fullmatch(text)
    known = match is not None and (text == "0.1" or match[1] in ("1", "2"))
    return None if known else ("unsupported", "must be 0.1, 1, 1.x or 2.x")


def _url_rule(url: str, *, allow_http: bool) -> str | None:
    """The rule that an address breaks already when it is given; all others are checked each time it is called."""
    if len(url) > LONGEST_URL:
        return f"must have at most {LONGEST_URL} characters"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "must be an absolute https URL"
    schemes: tuple[Literal["http", "https"], ...] = ("http", "https") if allow_http else ("https",)
    if parts.scheme not in schemes or not host or not _PRINTABLE.fullmatch(url):
        return "must be an absolute https URL"
    if "@" in parts.netloc:
        return "must not hold a user name or password"
    if "#" in url:
        return "must not have a fragment"
    if never_called(host):
        return "must not name a link-local or metadata address"
    return None
