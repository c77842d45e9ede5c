"""Every spelling of an OpenDSR address, and the one that routes know."""

from dataclasses import dataclass
from typing import Final

from core.opendsr.messages import BASE

ROOT: Final = "/opendsr"
_OLD_NOUN: Final = "opengdpr_requests"


@dataclass(frozen=True, slots=True)
class Place:
    """A canonical path; ``legacy``: it was written with the noun of OpenGDPR 1.0."""

    path: str
    legacy: bool


def place_of(path: str) -> Place | None:
    """What ``path`` means; None when it is not below the OpenDSR bases. No redirects: they lose bodies."""
    if path != ROOT and not path.startswith(f"{ROOT}/"):
        return None
    inner = path.removeprefix(BASE) if path == BASE or path.startswith(f"{BASE}/") else path.removeprefix(ROOT)
    parts = inner.removesuffix("/").split("/")
    legacy = len(parts) > 1 and parts[1] == _OLD_NOUN
    if legacy:
        parts[1] = "requests"
    return Place(BASE + "/".join(parts), legacy)
