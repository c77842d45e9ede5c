"""One digest for everything a data set consists of."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from core.unlearning.job import StoredFile


def fingerprint(files: Sequence[StoredFile], columns: Mapping[str, Any]) -> str:
    """SHA-256 over the sorted (path, SHA-256) pairs and the column map; where the files lie does not matter."""
    pairs = sorted([file.path, file.sha256] for file in files)
    message = json.dumps([pairs, columns], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(message.encode()).hexdigest()
