"""JSON Lines: one object a line; blank lines are not rows."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from core.datasets.reading import BadData, Batch, Layout, checked_batch
from core.platform.bounded_json import loads

_ROWS_AT_ONCE: Final = 16_384
_LONGEST_LINE: Final = 64 * 1024 * 1024


def read_jsonlines(path: Path, layout: Layout) -> Iterator[Batch]:
    """See ``Reader``."""
    keys = layout.columns.keys
    values: dict[str, list[str | None]] = {key: [] for key in keys}
    row, held_bytes = -1, 0
    for row, line in enumerate(_lines(path)):
        held_bytes += len(line)
        fields = _parsed(line, row)
        for key, name in keys.items():
            values[key].append(_key_value(fields, key, name, row))
        for key, name in layout.columns.content.items():
            _check_content(_field(fields, key, name, row), key, layout, row)
        for key, name in layout.columns.variants.items():
            _check_variant(_field(fields, key, name, row), key, row)
        if (held := len(values["record_id"])) == _ROWS_AT_ONCE or held_bytes > _LONGEST_LINE:
            yield checked_batch(row + 1 - held, values)
            values = {key: [] for key in keys}
            held_bytes = 0
    if values["record_id"]:
        yield checked_batch(row + 1 - len(values["record_id"]), values)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE):
            if len(line) == _LONGEST_LINE:
                raise BadData("line_too_long", f"a line is longer than {_LONGEST_LINE} bytes")
            if line.strip():
                yield line


def _parsed(line: bytes, row: int) -> Mapping[str, Any]:
    try:
        fields = loads(line)
    except ValueError:
        raise BadData("unreadable_file", "the line is not JSON", row=row) from None
    if not isinstance(fields, dict):
        raise BadData("unreadable_file", "the line is not a JSON object", row=row)
    return cast("dict[str, Any]", fields)


def _field(fields: Mapping[str, Any], key: str, name: str, row: int) -> Any:
    if name not in fields:
        raise BadData("missing_column", "there is no such field", key=key, row=row)
    return fields[name]


def _key_value(fields: Mapping[str, Any], key: str, name: str, row: int) -> str | None:
    optional = key == "subject_id" or key.startswith("identities/")
    value = fields.get(name) if optional else _field(fields, key, name, row)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and key != "split":
        return str(value)
    raise BadData(
        "bad_value_type", "text or an integer is needed" if key != "split" else "text is needed", key=key, row=row
    )


def _check_variant(value: Any, key: str, row: int) -> None:
    """Null, or one text; of ``perturbed`` a list of texts."""
    if value is None or (key == "paraphrase" and isinstance(value, str)):
        return
    if key == "perturbed" and isinstance(value, list) and all(isinstance(one, str) for one in cast("list[Any]", value)):
        return
    needed = "text is needed" if key == "paraphrase" else "a list of texts is needed"
    raise BadData("bad_value_type", needed, key=key, row=row)


def _check_content(value: Any, key: str, layout: Layout, row: int) -> None:
    if value is None:
        raise BadData("null_value", "there is no value", key=key, row=row)
    if key == "image":
        _check_image(value, layout, row)
    elif key == "label":
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise BadData("bad_label", "labels are integers from 0", key=key, row=row)
    elif not isinstance(value, str):
        raise BadData("bad_value_type", "text is needed", key=key, row=row)
    elif key == "text" and not value:
        raise BadData("empty_value", "the text is empty", key=key, row=row)


def _check_image(value: Any, layout: Layout, row: int) -> None:
    if not isinstance(value, list) or layout.pixels is None:
        raise BadData("bad_image", "JSON Lines hold images as lists of pixels, with image_shape", key="image", row=row)
    if _count(cast("list[Any]", value)) != layout.pixels:
        raise BadData("bad_image", "its number of pixel values is not that of image_shape", key="image", row=row)


def _count(value: list[Any]) -> int:
    """Values in a list of lists, however deep."""
    count, level = 0, value
    while level:
        lists = [cast("list[Any]", item) for item in level if isinstance(item, list)]
        count += len(level) - len(lists)
        level = [item for one in lists for item in one]
    return count
