"""JSON as RFC 8259 has it, in UTF-8, and nothing that a database could not hold or code could not walk."""

import json
import math
from typing import Any, Final, cast

DEEPEST: Final = 32
"""Arrays and objects within each other, the outermost counted."""


class NotStrict(ValueError):
    """The bytes are not acceptable; the message is a sentence for the caller that repeats none of them."""


def read(body: bytes) -> Any:
    """The value. Raises ``NotStrict``."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
    except NotStrict:
        raise
    except RecursionError:
        raise NotStrict(f"The body is nested deeper than {DEEPEST} levels.") from None
    except ValueError:
        raise NotStrict("The body is not valid JSON in UTF-8.") from None
    _walk(value)
    return value


def _no_constant(_name: str) -> None:
    raise NotStrict("NaN and Infinity are not JSON.")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise NotStrict("A number in the body is too large.")
    return number


def _walk(value: object) -> None:
    level: list[object] = [value]
    for _ in range(DEEPEST):
        deeper: list[object] = []
        for one in level:
            if isinstance(one, dict):
                members = cast("dict[str, object]", one)
                deeper += [*members, *members.values()]
            elif isinstance(one, list):
                deeper += cast("list[object]", one)
            elif isinstance(one, str):
                _check_text(one)
        if not deeper:
            return
        level = deeper
    if any(isinstance(one, dict | list) for one in level):
        raise NotStrict(f"The body is nested deeper than {DEEPEST} levels.")
    for one in level:
        if isinstance(one, str):
            _check_text(one)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise NotStrict("A text in the body holds the character U+0000.")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise NotStrict("A text in the body holds half of a surrogate pair.")
