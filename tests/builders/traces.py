"""Looking for what must not be kept: in every column of a database, every object of a store, every message of Redis."""

import base64
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

import boto3
from sqlalchemy import Engine, text

from core.platform.settings import StoreSettings


def spellings(value: str) -> Sequence[bytes]:
    """A value as it may stand somewhere: as it is, in lower case, in a URL, in hex, and within base64 at any place."""
    plain = value.encode()
    within = (base64.b64encode(b"x" * skip + plain)[2 + skip : -4] for skip in range(3))
    return [plain, value.lower().encode(), quote(value, safe="").encode(), plain.hex().encode(), *within]


def columns_with(engine: Engine, needles: Iterable[bytes]) -> set[str]:
    """Every ``table.column`` of every table in which one of the needles stands."""
    wanted = list(needles)
    with engine.connect() as connection:
        columns = connection.execute(
            text(
                "select table_name, column_name, data_type from information_schema.columns"
                " where table_schema = 'public' order by 1, 2"
            )
        ).all()
        found: set[str] = set()
        for table, column, kind in columns:
            shown = f'"{column}"' if kind == "bytea" else f"convert_to(\"{column}\"::text, 'UTF8')"
            values = connection.execute(text(f'select {shown} from "{table}" where "{column}" is not null')).scalars()  # noqa: S608
            content = b"\n".join(bytes(value) for value in values)
            if any(needle in content for needle in wanted):
                found.add(f"{table}.{column}")
        return found


def objects(settings: StoreSettings) -> Iterator[tuple[str, bytes]]:
    """Every object of the bucket with its content."""
    assert settings.secret_access_key is not None
    client = boto3.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key.get_secret_value(),
    )
    bucket = urlsplit(str(settings.url)).netloc
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            yield item["Key"], client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
    client.close()


class RedisTap:
    """Everything that any client sends to a Redis server while the block lasts (``MONITOR``)."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname, place.port or 6379))
        self._seen: list[bytes] = []
        self._thread = threading.Thread(target=self._read)

    @property
    def seen(self) -> bytes:
        return b"".join(self._seen)

    def __enter__(self) -> Self:
        self._socket.sendall(b"MONITOR\r\n")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while part := self._socket.recv(65536):
            self._seen.append(part)


def places_with(contents: Mapping[str, bytes], needles: Iterable[bytes]) -> set[str]:
    """The names of the contents in which one of the needles stands."""
    wanted = list(needles)
    return {name for name, content in contents.items() if any(needle in content for needle in wanted)}
