"""The identities we accept: one table for discovery and for validation."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Final

from core.deletions.commands import Identity

_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")


def _text(kind: str) -> Callable[[str], Identity | None]:
    def read(value: str) -> Identity | None:
        return Identity(kind, value) if value else None

    return read


def _address(value: str) -> Identity | None:
    address = unicodedata.normalize("NFC", value).strip()
    return Identity("email", address) if address else None


def _hash(kind: str) -> Callable[[str], Identity | None]:
    def read(value: str) -> Identity | None:
        return Identity(kind, value.lower(), hashed=True) if _SHA256.fullmatch(value) else None

    return read


PAIRS: Final[Mapping[tuple[str, str], Callable[[str], Identity | None]]] = {
    ("email", "raw"): _address,
    ("email", "sha256"): _hash("email"),
    ("controller_customer_id", "raw"): _text("controller_customer_id"),
    ("controller_customer_id", "sha256"): _hash("controller_customer_id"),
}
"""(type, format) to a function that reads a value of it: None when it is not one."""
