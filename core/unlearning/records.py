"""Reading records by file and row from Parquet or JSON Lines, a row group at a time."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.unlearning.failures import BadRecord, UnlearningError
from core.unlearning.job import DatasetSource
from core.unlearning.pages import Expanding, most_rows
from core.unlearning.selection import Places

_BYTES_DECODED_AT_ONCE = 8 * 2**20
_MOST_ROWS_DECODED_AT_ONCE = 65_536
_BUFFER_BYTES = 2**20
_LINES_A_GROUP = 1024


@dataclass(frozen=True, slots=True)
class Record:
    """One row: its place and the columns that were asked for, under their names in the file."""

    file: str
    row: int
    values: dict[str, Any]

    def bad(self, why: str) -> BadRecord:
        """The error that names this record's place."""
        return BadRecord(self.file, self.row, why)


class RecordFile(Protocol):
    """One file of a dataset."""

    def bounds(self) -> NDArray[np.int64]:
        """First row of each group, closed by the number of rows."""
        ...

    def read(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, dict[str, Any]]]:
        """The given rows (sorted, unique) in order; decodes no more than a few megabytes at a time.

        May be called by several threads at once.
        """
        ...


class ParquetRecords:
    """Rows of one Parquet file; groups are its row groups."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path = path
        self._columns = list(columns)
        with pq.ParquetFile(path) as file:
            self._metadata, names = file.metadata, file.schema_arrow.names
        missing = [name for name in columns if name not in names]
        if missing:
            raise UnlearningError("bad_dataset", f"{path.name} has no column {missing[0]!r}.")

        groups = (self._metadata.row_group(i).num_rows for i in range(self._metadata.num_row_groups))
        self._bounds = np.cumsum([0, *groups], dtype=np.int64)

    def bounds(self) -> NDArray[np.int64]:
        return self._bounds

    def read(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, dict[str, Any]]]:
        # In pieces: read otherwise, a row group's columns are held whole.
        pieces: dict[str, Any] = {"buffer_size": _BUFFER_BYTES, "pre_buffer": False}
        with pq.ParquetFile(self._path, metadata=self._metadata, **pieces) as file:
            edges = np.searchsorted(rows, self._bounds)
            for group in np.flatnonzero(np.diff(edges)).tolist():
                yield from self._read_group(file, group, rows[edges[group] : edges[group + 1]])

    def _rows_at_once(self, group: int) -> int:
        about = self._metadata.row_group(group)
        row_bytes = max(1, about.total_byte_size // max(1, about.num_rows))
        repeated = most_rows(self._path, self._metadata, group, self._columns)
        return max(1, min(_MOST_ROWS_DECODED_AT_ONCE, _BYTES_DECODED_AT_ONCE // row_bytes, repeated))

    def _read_group(
        self, file: pq.ParquetFile, group: int, wanted: NDArray[np.int64]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        start = int(self._bounds[group])
        batches = file.iter_batches(
            batch_size=self._rows_at_once(group), row_groups=[group], columns=self._columns, use_threads=False
        )
        for batch in batches:
            here = wanted[(wanted >= start) & (wanted < start + batch.num_rows)]
            if len(here):
                yield from zip(here.tolist(), batch.take(pa.array(here - start)).to_pylist(), strict=True)
            start += batch.num_rows
            if start > wanted[-1]:
                return


class JsonLinesRecords:
    """Rows of one JSON Lines file; blank lines are not rows. Groups are runs of 1,024 lines."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path = path
        self._columns = list(columns)

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        """Byte offset of each row, shape (rows,); found in one pass that keeps no line."""
        offsets, place = [], 0
        with self._path.open("rb") as lines:
            for line in lines:
                if line.strip():
                    offsets.append(place)
                place += len(line)
        return np.array(offsets, dtype=np.int64)

    def bounds(self) -> NDArray[np.int64]:
        rows = len(self._offsets)
        return np.append(np.arange(0, rows, _LINES_A_GROUP, dtype=np.int64), rows)

    def read(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, dict[str, Any]]]:
        with self._path.open("rb") as file:
            for row in rows.tolist():
                file.seek(int(self._offsets[row]))
                yield row, self._parse(file.readline(), row)

    def _parse(self, line: bytes, row: int) -> dict[str, Any]:
        try:
            values = json.loads(line)
            return {name: values[name] for name in self._columns}
        except (ValueError, TypeError):
            raise BadRecord(self._path.name, row, "the line is not a JSON object") from None
        except KeyError as error:
            raise BadRecord(self._path.name, row, f"it has no field {error.args[0]!r}") from None


class Dataset:
    """The files of one dataset, read by place and never as a whole."""

    def __init__(self, source: DatasetSource, files: Sequence[Path], columns: Sequence[str]) -> None:
        """columns: the names to read. Raises ``UnlearningError`` for a file that is unreadable or lacks one of them."""
        kind = ParquetRecords if source.format == "parquet" else JsonLinesRecords
        self._names = [path.name for path in files]
        try:
            self._files: Sequence[RecordFile] = [kind(path, columns) for path in files]
        except (OSError, pa.ArrowException) as error:
            raise UnlearningError("bad_dataset", "A file of the dataset cannot be opened.") from error

    def read(self, places: Places) -> Iterator[Record]:
        """The records at ``places``, sorted by file and row. Raises ``UnlearningError`` for a row that is not there."""
        for index in np.unique(places.file).tolist():
            rows = np.unique(places.row[places.file == index])
            if rows[-1] >= self._files[index].bounds()[-1]:
                raise UnlearningError("bad_selection", f"{self._names[index]} has no row {rows[-1]}.")
            try:
                for row, values in self._files[index].read(rows):
                    yield Record(self._names[index], row, values)
            except (OSError, pa.ArrowException, Expanding) as error:
                raise UnlearningError("bad_dataset", f"{self._names[index]} cannot be read to its end.") from error

    def groups(self, places: Places) -> NDArray[np.int64]:
        """The row group of each place, numbered across all files; shape (places,)."""
        groups, first = np.zeros(len(places), dtype=np.int64), 0
        for index, file in enumerate(self._files):
            here, bounds = places.file == index, file.bounds()
            groups[here] = first + np.searchsorted(bounds, places.row[here], side="right") - 1
            first += len(bounds)
        return groups
