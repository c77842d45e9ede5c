"""Identifiers ``<prefix>_<uuid7 in base32>``: sortable by creation, safe in URLs, telling what they name."""

import os
import time
import uuid
from datetime import datetime
from typing import Literal

Prefix = Literal[
    "ws",
    "wst",
    "key",
    "ds",
    "up",
    "mdl",
    "mv",
    "del",
    "run",
    "hrd",
    "crt",
    "whe",
    "rpl",
    "msg",
    "evt",
    "pol",
    "aud",
    "req",
    "dsr",
    "hold",
]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32, lower case: no i, l, o, u
_LENGTH = 26


def uuid7() -> uuid.UUID:
    """A version 7 UUID (RFC 9562, 5.7): 48 bits of Unix milliseconds, then random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return uuid.UUID(int=value)


def new_id(prefix: Prefix) -> str:
    """A fresh identifier, for example ``del_01k9…`` (prefix, underscore, 26 characters)."""
    return _written(prefix, uuid7().int)


def first_id(prefix: Prefix, at: datetime) -> str:
    """What every identifier made at ``at`` or later comes behind, and no earlier one."""
    return _written(prefix, int(at.timestamp() * 1000) << 80)


def _written(prefix: Prefix, number: int) -> str:
    digits = (_ALPHABET[(number >> shift) & 31] for shift in range(5 * (_LENGTH - 1), -1, -5))
    return f"{prefix}_{''.join(digits)}"
