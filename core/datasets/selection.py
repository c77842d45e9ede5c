"""The selection file: which rows a run forgets, retains and holds out, and which it only looks at again."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from core.unlearning.job import Set

ROWS_AT_ONCE: Final = 65_536

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
