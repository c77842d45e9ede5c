"""Parquet: key columns for the index, content columns only to see that they can be read and are of the right kind."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from core.datasets.reading import BadData, Batch, Layout, checked_batch

pc: Any = pyarrow.compute  # its functions are made at import

_KEYS_AT_ONCE: Final = 65_536
_CONTENTS_AT_ONCE: Final = 512
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"


def read_parquet(path: Path, layout: Layout) -> Iterator[Batch]:
    """See ``Reader``."""
    try:
        with pq.ParquetFile(path) as file:
            _check_schema(file.schema_arrow, layout)
            yield from _keys(file, layout)
            _check_contents(file, layout)
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        raise BadData("unreadable_file", "it is not a Parquet file that can be read to its end") from None


def _keys(file: Any, layout: Layout) -> Iterator[Batch]:
    columns = layout.columns.keys
    first = 0
    for batch in file.iter_batches(_KEYS_AT_ONCE, columns=sorted(set(columns.values())), use_threads=False):
        yield checked_batch(first, {key: _as_text(batch.column(name)) for key, name in columns.items()})
        first += batch.num_rows


def _as_text(column: Any) -> list[str | None]:
    return column.cast(pa.string()).to_pylist()


def _check_contents(file: Any, layout: Layout) -> None:
    columns = layout.columns.content
    first = 0
    for batch in file.iter_batches(_CONTENTS_AT_ONCE, columns=sorted(set(columns.values())), use_threads=False):
        for key, name in columns.items():
            _check_column(batch.column(name), key, layout, first)
        first += batch.num_rows


def _check_column(column: Any, key: str, layout: Layout, first: int) -> None:
    if pa.types.is_struct(column.type):
        _refuse_where(column.is_null(), "null_value", "there is no value", key, first)
        column = column.field("bytes")
    _refuse_where(column.is_null(), "null_value", "there is no value", key, first)
    if key == "label":
        _refuse_where(pc.less(column, 0), "bad_label", "the label is negative", key, first)
    elif key == "text":
        _refuse_where(pc.equal(pc.binary_length(_plain(column)), 0), "empty_value", "the text is empty", key, first)
    elif key == "image":
        _check_images(column, layout, first)


def _check_images(column: Any, layout: Layout, first: int) -> None:
    if _is_binary(column.type):
        if layout.pixels is None:
            starts = pc.starts_with(column, pattern=_PNG), pc.starts_with(column, pattern=_JPEG)
            _refuse_where(pc.invert(pc.or_(*starts)), "bad_image", "it is neither PNG nor JPEG", "image", first)
        else:
            _refuse_where(pc.not_equal(pc.binary_length(column), layout.pixels), *_WRONG_SIZE, "image", first)
    elif not pa.types.is_nested(column.type.value_type):
        _refuse_where(pc.not_equal(pc.list_value_length(column), layout.pixels), *_WRONG_SIZE, "image", first)


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


def _plain(column: Any) -> Any:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_list(kind: Any) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_binary(kind: Any) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
