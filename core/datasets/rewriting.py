"""Writing a data set's file anew without some of its rows: a piece at a time, the other rows as they were."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from core.unlearning.pages import Expanding, most_rows

_PIECE_BYTES: Final = 64 * 2**20
"""A row group that is larger when decoded is written as several, so that memory stays bounded."""
_DECODED_AT_ONCE: Final = 8 * 2**20
_BUFFER_BYTES: Final = 2**20
_MOST_ROWS: Final = 65_536

Beat = Callable[[], object]


class Unwritable(Exception):
    """The file cannot be read to its end, or not be written as it was."""


class Rewriter(Protocol):
    """Writes one file of a format anew."""

    def __call__(self, source: Path, target: Path, gone: Sequence[int], beat: Beat) -> int:
        """Write ``source`` without the rows ``gone`` (in order, each once) to ``target``; how many rows are left.

        ``beat`` is called now and then. Raises ``Unwritable``.
        """
        ...


def rewrite_jsonlines(source: Path, target: Path, gone: Sequence[int], beat: Beat) -> int:
    """See ``Rewriter``. Lines are copied byte for byte; blank ones are not rows and stay."""
    row = left = 0
    with source.open("rb") as lines, target.open("wb") as out:
        for line in lines:
            if not line.strip():
                out.write(line)
                continue
            if not _holds(gone, row):
                out.write(line)
                left += 1
            row += 1
            if row % _MOST_ROWS == 0:
                beat()
    return left


def rewrite_parquet(source: Path, target: Path, gone: Sequence[int], beat: Beat) -> int:
    """See ``Rewriter``. Row groups stay as they are cut, but for large ones.

    Schema and its metadata, codecs, dictionaries, statistics, page index and format version are kept. A group of
    which nothing is left goes.
    """
    try:
        with pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            schema = file.schema_arrow
            with pq.ParquetWriter(target, schema, **_as_written(file.metadata)) as writer:
                first = left = 0
                for group in range(file.metadata.num_row_groups):
                    most = most_rows(source, file.metadata, group)
                    for table in _pieces(_kept(file, group, first, gone, beat, most), schema):
                        writer.write_table(table, row_group_size=table.num_rows)
                        left += table.num_rows
                    first += file.metadata.row_group(group).num_rows
    except (pa.ArrowException, OSError, ValueError, Expanding) as error:
        raise Unwritable(type(error).__name__) from error
    return left


REWRITERS: Final[dict[str, Rewriter]] = {"parquet": rewrite_parquet, "jsonl": rewrite_jsonlines}


def _holds(rows: Sequence[int], row: int) -> bool:
    place = bisect_left(rows, row)
    return place < len(rows) and rows[place] == row


def _kept(file: Any, group: int, first: int, gone: Sequence[int], beat: Beat, most: int) -> Iterator[Any]:
    """The batches of one row group, which begins at row ``first``, without the rows that go; at most ``most`` rows."""
    about = file.metadata.row_group(group)
    row_bytes = max(1, about.total_byte_size // max(1, about.num_rows))
    size = max(1, min(_MOST_ROWS, _DECODED_AT_ONCE // row_bytes, most))
    for batch in file.iter_batches(size, row_groups=[group], use_threads=False):
        beat()
        here = gone[bisect_left(gone, first) : bisect_left(gone, first + batch.num_rows)]
        yield _without(batch, [row - first for row in here]) if here else batch
        first += batch.num_rows


def _without(batch: Any, rows: Sequence[int]) -> Any:
    kept = [True] * batch.num_rows
    for row in rows:
        kept[row] = False
    return batch.filter(pa.array(kept, pa.bool_()))


def _pieces(batches: Iterator[Any], schema: Any) -> Iterator[Any]:
    """The batches as tables to be written as a row group each."""
    held: list[Any] = []
    for batch in batches:
        if batch.num_rows:
            held.append(batch)
        if sum(one.nbytes for one in held) >= _PIECE_BYTES:
            yield _table(held, schema)
            held = []
    if held:
        yield _table(held, schema)


def _table(batches: Sequence[Any], schema: Any) -> Any:
    return pa.Table.from_batches(batches, schema).unify_dictionaries()


def _as_written(metadata: Any) -> dict[str, Any]:
    """Options for writing a file like the one that this is the metadata of."""
    options: dict[str, Any] = {"version": metadata.format_version}
    if metadata.num_row_groups == 0 or metadata.num_columns == 0:
        return options
    group = metadata.row_group(0)
    columns = {one.path_in_schema: one for one in (group.column(i) for i in range(metadata.num_columns))}
    codecs = {path: _codec(one.compression) for path, one in columns.items()}
    return {
        **options,
        "compression": codecs if len(set(codecs.values())) > 1 else next(iter(codecs.values())),
        "use_dictionary": [path for path, one in columns.items() if any("DICT" in how for how in one.encodings)],
        "write_statistics": [path for path, one in columns.items() if one.is_stats_set],
        "write_page_index": any(one.has_offset_index for one in columns.values()),
        "use_compliant_nested_type": not any(".list.item" in path for path in columns),
        "sorting_columns": list(group.sorting_columns) or None,
    }


def _codec(name: str) -> str:
    return "none" if name == "UNCOMPRESSED" else name.lower()
