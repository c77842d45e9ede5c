"""Files that commands are given, with failures as words."""

import json
from pathlib import Path
from typing import Any

import httpx

from cli.output import Failed


def keys_at(place: str) -> dict[str, Any]:
    """A JWK set: a file, or the URL of one. Raises ``Failed``."""
    if not place.startswith(("http://", "https://")):
        return json_of(Path(place))
    try:
        return httpx.get(place, timeout=30).raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        raise Failed(f"cannot read keys from {place}: {error}") from None


def json_of(path: Path) -> Any:
    """What a file says. Raises ``Failed``."""
    try:
        return json.loads(text_of(path))
    except ValueError as error:
        raise Failed(f"{path} is not JSON: {error}") from None


def text_of(path: Path) -> str:
    """What a file holds. Raises ``Failed``."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"cannot read {path}: {error}") from None
