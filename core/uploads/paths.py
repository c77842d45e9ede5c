"""Which file names a caller may announce."""

from collections.abc import Sequence
from typing import Final

from core.platform.errors import Problem

LONGEST_PATH: Final = 512
LONGEST_NAME: Final = 200  # bytes of one segment, with room below the 255 of file systems


def path_problem(path: str) -> str | None:
    """What is wrong with a relative path, in words; None when it is acceptable."""
    if not path or len(path) > LONGEST_PATH:
        return f"A path has 1 to {LONGEST_PATH} characters."
    if any(not character.isprintable() for character in path):
        return "A path holds no control characters and no other invisible ones."
    if "\\" in path:
        return "Folders are separated by '/', not by a backslash."
    if any(segment in ("", ".", "..") for segment in path.split("/")):
        return "A path is relative and has no empty, '.' or '..' segments."
    if any(len(segment.encode()) > LONGEST_NAME for segment in path.split("/")):
        return f"A file or folder name has at most {LONGEST_NAME} bytes."
    return None


def path_problems(paths: Sequence[str]) -> list[Problem]:
    """Each unacceptable or repeated path, and each that is a file here and a folder there."""
    problems: list[Problem] = []
    folders = {folder for path in paths for folder in _folders(path)}
    seen: set[str] = set()
    for i, path in enumerate(paths):
        pointer = f"/files/{i}/path"
        wrong = path_problem(path)
        if wrong is not None:
            problems.append(Problem(pointer, "bad_path", wrong))
        elif path in seen:
            problems.append(Problem(pointer, "duplicate_path", "Another file of this upload has the same path."))
        elif path in folders:
            problems.append(Problem(pointer, "duplicate_path", "Another file of this upload needs this as a folder."))
        seen.add(path)
    return problems


def _folders(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]
