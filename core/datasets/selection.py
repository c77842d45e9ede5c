"""The selection file: which rows a run forgets, retains and holds out, and which it only looks at again."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
import hashlib
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.unlearning.job import Set

ROWS_AT_ONCE: Final = 65_536
SETS: Final[tuple[Set, ...]] = ("forget", "retain", "holdout")

_SCHEMA: Final = pa.schema(
    [
        pa.field("set", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("file", pa.int32(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("run_id", pa.string()),
    ]
)


_NONE: Final[Mapping[str, str]] = {}


class SelectionWriter:
    """Writes ``core.unlearning.job.SELECTION_FILE`` batch by batch. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, _SCHEMA, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()

    def write(self, kind: Set, rows: Sequence[tuple[str, int, int]], runs: Mapping[str, str] = _NONE) -> int:
        """Append (record id, file, row) triples of one set, which come sorted by file and row; how many they are.

        runs: record id → the run that forgot it.
        """
        if not rows:
            return 0
        ids, files, places = zip(*rows, strict=True)
        sets = pa.DictionaryArray.from_arrays(pa.array([0] * len(ids), pa.int8()), pa.array([kind]))
        columns = [sets, pa.array(ids, pa.string()), pa.array(files, pa.int32()), pa.array(places, pa.int64())]
        columns.append(pa.array([runs.get(record_id) for record_id in ids], pa.string()))
        self._writer.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))
        return len(ids)


def set_digests(path: Path) -> dict[Set, str]:
    """SHA-256 of each set of a selection file, in hexadecimal, by which rows are chosen and not by how it was written.

    It is taken over the SHA-256 of the numbers of files and that of the rows, each in order as 64-bit little-endian
    integers.
    """
    hashes: dict[Set, tuple[Any, Any]] = {kind: (hashlib.sha256(), hashlib.sha256()) for kind in SETS}
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=["set", "file", "row"]):
            names = batch.column("set").cast(pa.string())
            for kind, (files, rows) in hashes.items():
                chosen = batch.filter(pc.equal(names, kind))  # pyright: ignore[reportAttributeAccessIssue]
                files.update(_little_endian(chosen.column("file")))
                rows.update(_little_endian(chosen.column("row")))
    return {kind: hashlib.sha256(files.digest() + rows.digest()).hexdigest() for kind, (files, rows) in hashes.items()}


def _little_endian(column: pa.Array) -> bytes:
    return array("q", column.to_pylist()).tobytes()
