"""One way to write JSON, so that equal contents have equal digests."""

import hashlib
import json


def canonical(value: object) -> bytes:
    """JSON in UTF-8 with sorted keys and no white space, numbers as Python's ``json`` writes them.

    Raises ``ValueError`` for what JSON cannot say: nan and infinity.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sha256(value: object) -> str:
    """SHA-256 of the canonical form, in hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()
