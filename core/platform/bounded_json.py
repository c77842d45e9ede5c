"""JSON from others, parsed only if the values in it take a bounded amount of memory."""

import json
from collections.abc import Callable
from typing import Any, Final

MOST_VALUES: Final = 4_000_000
"""About half a gigabyte of Python objects. A tokenizer of 256,000 words has half as many."""


def loads(content: bytes, *, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """As ``json.loads``. Raises ``ValueError`` also for what is nested too deeply or holds too many values."""
    if sum(content.count(mark) for mark in (b",", b"[", b"{")) > MOST_VALUES:
        raise ValueError("it holds too many values")
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=object_pairs_hook)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
