"""Headers that an endpoint wants on every request: its own credential, a routing hint."""

import json
import re
from collections.abc import Mapping
from typing import Final

from core.platform.errors import InvalidInput, Problem
from core.platform.secrets import Keyring

PURPOSE: Final = "webhook-headers"
_MOST: Final = 20
_LONGEST_NAME: Final = 100
_LONGEST_VALUE: Final = 1024
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_RESERVED: Final = frozenset(
    {
        "host",
        "user-agent",
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "accept-encoding",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "date",
    }
)
"""Ours, or about the connection and not about the message."""
_RESERVED_PREFIXES: Final = ("webhook-", "content-", "proxy-")


def check(headers: Mapping[str, str]) -> dict[str, str]:
    """``headers`` as they are sent. Raises ``InvalidInput``, pointing at each that may not be."""
    problems = [_problem(name, "bad_header", why) for name, value in headers.items() if (why := _wrong(name, value))]
    if len(headers) > _MOST:
        problems.append(Problem("/headers", "too_many", f"There may be at most {_MOST}."))
    lower = [name.lower() for name in headers]
    problems += [
        _problem(name, "duplicate", "The header is there twice.") for name in headers if lower.count(name.lower()) > 1
    ]
    if problems:
        raise InvalidInput("Some headers cannot be sent.", problems)
    return dict(headers)


def seal(headers: Mapping[str, str], keyring: Keyring) -> bytes | None:
    """For storage: they may hold the receiver's credentials."""
    return keyring.seal(PURPOSE, json.dumps(headers).encode()) if headers else None


def unseal(sealed: bytes | None, keyring: Keyring) -> dict[str, str]:
    """What was sealed."""
    return json.loads(keyring.open(PURPOSE, sealed)) if sealed is not None else {}


def _wrong(name: str, value: str) -> str | None:
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        return "This is no name of a header."
    if name.lower() in _RESERVED or name.lower().startswith(_RESERVED_PREFIXES):
        return "This header is reserved."
    if len(value) > _LONGEST_VALUE or not _VALUE.fullmatch(value):
        return f"The value must be 1 to {_LONGEST_VALUE} printable ASCII characters, without a space at either end."
    return None


def _problem(name: str, code: str, detail: str) -> Problem:
    place = name[:_LONGEST_NAME].replace("~", "~0").replace("/", "~1")
    return Problem(f"/headers/{place}", code, detail)
