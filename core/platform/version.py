"""Which code this is: the installed version and, where it is known, the commit it was built from."""

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

_PACKAGE = "unlearning-service"
_HOME = Path(__file__).resolve().parents[2]


class Code(TypedDict):
    """``commit``: full git hash, with ``-dirty`` behind it when the checkout had been changed; None when unknown."""

    version: str
    commit: str | None


def code(commit: str | None = None) -> Code:
    """The running code. ``commit``: what the build says (``UNLEARN_COMMIT``); a checkout is asked itself."""
    return Code(version=version(_PACKAGE), commit=commit or _checked_out())


@cache
def _checked_out() -> str | None:
    if not (_HOME / ".git").exists():
        return None
    command = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        found = subprocess.run(command, cwd=_HOME, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
