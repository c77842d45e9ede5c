"""Private scratch space of one piece of work. It holds personal data, so it never outlives the work."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

RUN: Final = "unlearn-run-"
"""How folders of runs begin, which workers have."""
FILES: Final = "unlearn-files-"
"""And those for a data set's files, which the loops have."""
_HELD = ".held"


@contextmanager
def work_folder(root: Path | None, prefix: str = RUN) -> Generator[Path]:
    """A new folder that only this user may enter, removed at the end whatever happens."""
    if root is not None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    try:
        with (folder / _HELD).open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(root: Path | None, prefix: str = RUN) -> int:
    """Remove folders whose process was killed before it could; how many. Those still held stay."""
    removed = 0
    for folder in (root or Path(tempfile.gettempdir())).glob(f"{prefix}*"):
        if not folder.is_symlink() and folder.stat().st_uid == os.getuid() and _abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def _abandoned(folder: Path) -> bool:
    try:
        with (folder / _HELD).open() as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False  # being made or removed this moment
    except BlockingIOError:
        return False
    return True
