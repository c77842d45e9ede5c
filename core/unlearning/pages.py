"""What the pages of a Parquet file expand to, read from their headers without decoding anything.

A page says how long it is before and after decompression, and a row of a dictionary-encoded column repeats a value of
the dictionary page. So a file of kilobytes can stand for any amount of memory, and the footer need not say so.
Format: https://parquet.apache.org/docs/file-format/ (page headers are Thrift structs in the compact protocol).
"""

import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

LARGEST_PAGE: Final = 128 * 2**20
MOST_PAGES: Final = 500_000
_MOST_DECODED: Final = 2**30
_MOST_TIMES: Final = 100
_DICTIONARY_ROWS: Final = 512 * 2**20
_DEEPEST: Final = 16
_VALUE_BYTES: Final = 8
"""A run of equal values takes a few bytes in a page, however long it is."""
_DATA_PAGE: Final = 5
_DATA_PAGE_V2: Final = 8


class Expanding(Exception):
    """The file is not what it is said to be, or takes more memory than its size explains."""


@dataclass(frozen=True, slots=True)
class _Page:
    size: int
    """Bytes when decompressed."""
    stored: int
    end: int
    """Place behind the header."""


def refuse_expanding(path: Path, metadata: Any) -> None:
    """Raises ``Expanding`` for a page over ``LARGEST_PAGE``, for too many pages, and for a column chunk of over 1 GiB
    that is more than a hundred times what is stored of it.
    """
    count = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for group in range(metadata.num_row_groups):
            for chunk in _chunks(metadata, group):
                total = 0
                for page in _pages(content, chunk):
                    count, total = count + 1, total + page.size
                    if page.size > LARGEST_PAGE or count > MOST_PAGES:
                        raise Expanding(f"a page holds more than {LARGEST_PAGE} bytes, or there are too many pages")
                if total > max(_MOST_DECODED, _MOST_TIMES * chunk.total_compressed_size):
                    raise Expanding(f"a column holds more than {_MOST_TIMES} times the bytes that are stored of it")


def most_rows(path: Path, metadata: Any, group: int, columns: Sequence[str] | None = None) -> int:
    """How many rows of a row group may be decoded at once, at least 1, if each repeats the largest dictionaries.

    columns: names of the top-level columns that are read, None for all. Raises ``Expanding`` for a broken header.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        dictionaries = sum(
            _page(content, chunk.dictionary_page_offset).size
            for chunk in _chunks(metadata, group)
            if _has_dictionary(chunk) and (columns is None or _top(chunk, columns))
        )
    return max(1, _DICTIONARY_ROWS // max(1, dictionaries))


def _chunks(metadata: Any, group: int) -> Iterator[Any]:
    about = metadata.row_group(group)
    return (chunk for number in range(about.num_columns) if (chunk := about.column(number)).num_values)


def _top(chunk: Any, columns: Sequence[str]) -> bool:
    path = chunk.path_in_schema
    return any(path == name or path.startswith(f"{name}.") for name in columns)


def _has_dictionary(chunk: Any) -> bool:
    return chunk.has_dictionary_page and bool(chunk.dictionary_page_offset)


def _pages(content: mmap.mmap, chunk: Any) -> Iterator[_Page]:
    place = chunk.data_page_offset
    if _has_dictionary(chunk):
        place = min(place, chunk.dictionary_page_offset)
    end = place + chunk.total_compressed_size
    while place < end:
        page = _page(content, place)
        yield page
        place = page.end + page.stored


def _page(content: mmap.mmap, place: int) -> _Page:
    reader = _Thrift(content, place)
    try:
        header = reader.struct()
    except IndexError:
        raise Expanding("a page's header cannot be read") from None
    size, stored = header.get(2), header.get(3)
    if not isinstance(size, int) or not isinstance(stored, int) or size < 0 or stored < 0:
        raise Expanding("a page's header does not say how long it is")
    values = max(_number(header, kind) for kind in (_DATA_PAGE, _DATA_PAGE_V2))
    return _Page(max(size, _VALUE_BYTES * values), stored, reader.place)


def _number(header: dict[int, Any], kind: int) -> int:
    """How many values a data page holds by its header of this kind, which may be absent."""
    found = header.get(kind, {})
    number = found.get(1, 0) if isinstance(found, dict) else 0
    return number if isinstance(number, int) else 0


class _Thrift:
    """Reads one struct of the compact protocol."""

    def __init__(self, content: mmap.mmap, place: int) -> None:
        self._content = content
        self.place = place
        self._kinds: dict[int, Callable[[int], Any]] = {
            1: lambda _: None,  # true and false are in the type itself
            2: lambda _: None,
            3: lambda _: self._forward(1),
            4: lambda _: self._number(),
            5: lambda _: self._number(),
            6: lambda _: self._number(),
            7: lambda _: self._forward(8),
            8: lambda _: self._forward(self._varint()),
            9: self._list,
            10: self._list,
            12: self.struct,
        }

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The whole numbers and structs of the struct that begins here, by field id; the rest is skipped.

        Raises ``IndexError`` for bytes that are none.
        """
        found: dict[int, Any] = {}
        field = 0
        while (head := self._byte()) != 0:
            step, kind = head >> 4, head & 15
            field = field + step if step else self._number()
            found[field] = self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind not in self._kinds or depth > _DEEPEST:
            raise IndexError(kind)
        return self._kinds[kind](depth + 1)

    def _list(self, depth: int) -> None:
        head = self._byte()
        size, kind = head >> 4, head & 15
        for _ in range(self._varint() if size == 15 else size):
            self._value(max(kind, 3), depth)  # booleans in lists take a byte

    def _byte(self) -> int:
        value = self._content[self.place]
        self.place += 1
        return value

    def _forward(self, count: int) -> None:
        if count > len(self._content) - self.place:
            raise IndexError(count)
        self.place += count

    def _number(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise IndexError(shift)
