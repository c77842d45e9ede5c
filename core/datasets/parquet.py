"""Parquet: key columns for the index, content columns only to see that they can be read and are of the right kind."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from core.datasets.probing import FooterProbe
from core.datasets.reading import BadData, Batch, Layout, checked_batch
from core.unlearning.pages import Expanding, most_rows, refuse_expanding

pc: Any = pyarrow.compute  # its functions are made at import

_KEYS_AT_ONCE: Final = 65_536
_CONTENTS_AT_ONCE: Final = 512
_BUFFER_BYTES: Final = 2**20
_STARTS: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
"""How PNG and JPEG begin."""
_MOST_CONTENT: Final = 2**30
_MOST_TIMES: Final = 100
_PROBE: Final = FooterProbe()


def read_parquet(path: Path, layout: Layout) -> Iterator[Batch]:
    """See ``Reader``."""
    if not _PROBE.readable(path):
        raise BadData("unreadable_file", "it is not a Parquet file whose description can be read")
    try:
        with pq.ParquetFile(path) as file:
            _check_schema(file.schema_arrow, layout)
            metadata = file.metadata
        refuse_expanding(path, metadata)
        # In pieces: read otherwise, a row group's columns are held whole. Dictionaries stay such: decoded, every row
        # would have a copy of its value.
        pieces: dict[str, Any] = {"buffer_size": _BUFFER_BYTES, "pre_buffer": False}
        with pq.ParquetFile(path, read_dictionary=_dictionaries(metadata, layout), **pieces) as file:
            yield from _keys(path, file, layout)
            _check_contents(path, file, layout)
    except Expanding as error:
        raise BadData(
            "unreadable_file", f"it is not a Parquet file that can be read in little memory: {error}"
        ) from None
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        raise BadData("unreadable_file", "it is not a Parquet file that can be read to its end") from None


def _dictionaries(metadata: Any, layout: Layout) -> list[str]:
    """Paths of the byte columns with content that are encoded with dictionaries."""
    names = set(layout.columns.content.values())
    chunks = (
        metadata.row_group(group).column(number)
        for group in range(metadata.num_row_groups)
        for number in range(metadata.num_columns)
    )
    found = {
        chunk.path_in_schema for chunk in chunks if chunk.has_dictionary_page and chunk.physical_type == "BYTE_ARRAY"
    }
    return sorted(path for path in found if path in names or path.removesuffix(".bytes") in names)


def _batches(path: Path, file: Any, names: Collection[str], most: int) -> Iterator[Any]:
    """The columns in order, by row group and at most ``most`` rows at once."""
    columns = sorted(set(names))
    for group in range(file.metadata.num_row_groups):
        rows = min(most, most_rows(path, file.metadata, group, columns))
        yield from file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)


def _keys(path: Path, file: Any, layout: Layout) -> Iterator[Batch]:
    columns = layout.columns.keys
    first = 0
    for batch in _batches(path, file, columns.values(), _KEYS_AT_ONCE):
        yield checked_batch(first, {key: _as_text(batch.column(name)) for key, name in columns.items()})
        first += batch.num_rows


def _as_text(column: Any) -> list[str | None]:
    return column.cast(pa.string()).to_pylist()


def _check_contents(path: Path, file: Any, layout: Layout) -> None:
    columns = layout.columns.content
    most = max(_MOST_CONTENT, _MOST_TIMES * path.stat().st_size)
    first = decoded = 0
    for batch in _batches(path, file, columns.values(), _CONTENTS_AT_ONCE):
        for key, name in columns.items():
            _check_column(batch.column(name), key, layout, first)
            decoded += _repeated(batch.column(name))
        if decoded > most:
            raise Expanding(f"its content is more than {_MOST_TIMES} times as long as the file")
        first += batch.num_rows


def _check_column(column: Any, key: str, layout: Layout, first: int) -> None:
    if pa.types.is_struct(column.type):
        _refuse_where(column.is_null(), "null_value", "there is no value", key, first)
        column = column.field("bytes")
    _refuse_where(column.is_null(), "null_value", "there is no value", key, first)
    if key == "label":
        _refuse_where(pc.less(column, 0), "bad_label", "the label is negative", key, first)
    elif key == "text":
        _refuse_where(pc.equal(_lengths(column), 0), "empty_value", "the text is empty", key, first)
    elif key == "image":
        _check_images(column, layout, first)


def _check_images(column: Any, layout: Layout, first: int) -> None:
    if _is_binary(_plain(column.type)):
        if layout.pixels is None:
            wrong = _each(
                column, lambda values: pc.invert(pc.or_(*(pc.starts_with(values, pattern=p) for p in _STARTS)))
            )
            _refuse_where(wrong, "bad_image", "it is neither PNG nor JPEG", "image", first)
        else:
            _refuse_where(pc.not_equal(_lengths(column), layout.pixels), *_WRONG_SIZE, "image", first)
    elif not pa.types.is_nested(column.type.value_type):
        _refuse_where(pc.not_equal(pc.list_value_length(column), layout.pixels), *_WRONG_SIZE, "image", first)


def _each(column: Any, ask: Callable[[Any], Any]) -> Any:
    """``ask`` of every value, but of each value of a dictionary only once."""
    if pa.types.is_dictionary(column.type):
        return pc.take(ask(column.dictionary), column.indices)
    return ask(column)


def _repeated(column: Any) -> int:
    """Bytes of a column that its rows would take with copies of the dictionary's values; 0 for other columns."""
    column = column.field("bytes") if pa.types.is_struct(column.type) else column
    return (pc.sum(_lengths(column)).as_py() or 0) if pa.types.is_dictionary(column.type) else 0


def _lengths(column: Any) -> Any:
    return _each(column, pc.binary_length)


_WRONG_SIZE: Final = ("bad_image", "its number of pixel values is not that of image_shape")


def _refuse_where(mask: Any, code: str, why: str, key: str, first: int) -> None:
    """Raise for the first row where ``mask`` is true."""
    place = pc.index(mask, True).as_py()
    if place >= 0:
        raise BadData(code, why, key=key, row=first + place)


def _check_schema(schema: Any, layout: Layout) -> None:
    for key, name in {**layout.columns.keys, **layout.columns.content, **layout.columns.variants}.items():
        if schema.names.count(name) != 1:
            how_many = "several columns" if name in schema.names else "no column"
            raise BadData("missing_column", f"there is {how_many} of this name", key=key)
        kind = schema.field(name).type
        why = _kind_problem(kind, key, layout)
        if why is not None:
            raise BadData("bad_column_type", f"{why}, and the column is of type {kind}", key=key)


def _kind_problem(kind: Any, key: str, layout: Layout) -> str | None:
    """What a column must be and is not."""
    if key == "label":
        return None if pa.types.is_integer(kind) else "labels are integers"
    if key in ("prompt", "response", "text", "paraphrase"):
        return None if _is_text(kind) else "text is needed"
    if key == "perturbed":
        return None if _is_list(kind) and _is_text(kind.value_type) else "lists of texts are needed"
    if key == "image":
        return _image_problem(kind, layout)
    if key == "split":
        return None if _is_text(kind) else "text is needed"
    return None if _is_text(kind) or pa.types.is_integer(kind) else "text or integers are needed"


def _image_problem(kind: Any, layout: Layout) -> str | None:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return (
            None
            if index >= 0 and _is_binary(kind.field(index).type)
            else "a struct with a binary field 'bytes' is needed"
        )
    if _is_binary(kind):
        return None
    if _is_list(kind):
        return None if layout.pixels is not None else "lists of pixels need image_shape"
    return "encoded bytes, a struct with bytes, or raw pixels are needed"


def _plain(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: Any) -> bool:
    kind = _plain(kind)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_list(kind: Any) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_binary(kind: Any) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
