"""Reads damaged files in a process of its own, which may take little memory: one line in, one line out.

A line in is ``<kind> <path>``; a line out is ``accepted``, ``refused <code>``, or ``broken <what>`` for whatever is not
one of our own errors, a lack of memory included.
"""

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyarrow as pa

from benchmarks.fuzzing.seeds import FOLDERS, IMAGES, LAYOUTS
from core.datasets.jsonlines import read_jsonlines
from core.datasets.parquet import read_parquet
from core.datasets.reading import BadData
from core.platform.errors import DomainError
from core.platform.objects import MemoryStore
from core.registry.inspection import check_folder, inspect
from core.unlearning.failures import BadRecord
from core.unlearning.pixels import decoded
from core.unlearning.records import Record
from core.uploads.sources import SourceFile

MEMORY: Final = 2**31
"""Address space that reading may take beyond what the process has before."""


def _rows(path: Path, kind: str) -> None:
    read = read_parquet if kind.endswith(".parquet") else read_jsonlines
    for _ in read(path, LAYOUTS[kind]):
        pass


def _image(path: Path, _kind: str) -> None:
    decoded(Record("images", 0, {}), path.read_bytes())


def _folder(path: Path, kind: str) -> None:
    """The model folder ``kind`` belongs to, with this file in the place of its own."""
    folder, name = kind.split(":", 1)
    store, found = MemoryStore(), {}
    for each, content in {**FOLDERS[folder](), name: path.read_bytes()}.items():
        uri = store.uri(each)
        store.put_bytes(uri, content)
        found[each] = inspect(store, SourceFile(each, uri, len(content)))
    check_folder(found, "causal-lm")


def _reader(kind: str) -> Callable[[Path, str], None]:
    if kind in LAYOUTS:
        return _rows
    return _image if kind in IMAGES else _folder


def read(kind: str, path: Path) -> str:
    """What becomes of one file."""
    try:
        _reader(kind)(path, kind)
    except (BadData, DomainError, BadRecord) as error:
        return "broken MemoryError" if _lacked_memory(error) else f"refused {getattr(error, 'code', 'bad_record')}"
    except Exception as error:
        return f"broken {type(error).__name__}: {error}".replace("\n", " ")[:300]
    return "accepted"


def _lacked_memory(error: BaseException | None) -> bool:
    """Whether a lack of memory is hidden behind one of our own errors."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def confine() -> None:
    """Let this process take no more than ``MEMORY`` on top of what it has."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))


def _main() -> None:
    pa.set_cpu_count(1)  # each thread of a pool takes address space
    pa.set_io_thread_count(1)
    confine()
    for line in sys.stdin:
        kind, path = line.rstrip("\n").split(" ", 1)
        print(read(kind, Path(path)), flush=True)


if __name__ == "__main__":
    _main()
