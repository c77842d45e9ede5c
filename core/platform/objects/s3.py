"""Objects in a bucket of any S3-compatible server."""

import io
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

# pyright: reportMissingTypeStubs=false
import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from core.platform.errors import DependencyDown
from core.platform.objects.port import (
    CHUNK_BYTES,
    ForeignUri,
    ObjectExists,
    ObjectInfo,
    Part,
    Presigned,
    StoreFull,
    StoreRefused,
)
from core.platform.settings import StoreSettings

_MISSING = {"404", "NoSuchKey", "NotFound", "NoSuchBucket", "NoSuchUpload"}
_TAKEN = {"412", "PreconditionFailed", "ConditionalRequestConflict"}
_REFUSED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_FULL = {"507", "InsufficientStorage", "XMinioStorageFull"}
_MOST_PARTS = 10_000
_PARALLEL_PARTS = 4


class S3Store:
    """An ``ObjectStore`` on boto3. Signature version 4 throughout; checksums as the settings say.

    Never overwriting rests on a look beforehand and on conditional writes; a server that ignores the condition leaves
    a small window, which the keys (they hold an id or an attempt) make harmless.
    """

    def __init__(self, settings: StoreSettings, *, readable: Sequence[str] = ()) -> None:
        """settings: ``url`` is ``s3://bucket/prefix``. readable: other prefixes that may be read."""
        self.root = f"{(settings.url or '').rstrip('/')}/"
        self._bucket, _ = _place(self.root)
        self._readable = (self.root, *readable)
        self._part_size = settings.part_size_bytes
        self._client = _client(settings, settings.endpoint_url, attempts=3)
        self._probe = _client(settings, settings.endpoint_url, attempts=1, timeout_s=3)
        self._signer = _client(settings, settings.public_endpoint_url or settings.endpoint_url, attempts=1)

    def uri(self, key: str) -> str:
        return self.root + key

    def put_file(self, uri: str, path: Path) -> None:
        size = path.stat().st_size
        target = self._new(uri)
        if size <= self._part_size:
            with path.open("rb") as body, self._answers(uri):
                self._client.put_object(**target, Body=body, ContentLength=size, IfNoneMatch="*")
            return
        with self._answers(uri):
            self._put_in_parts(target, path, size)

    def put_bytes(self, uri: str, data: bytes) -> None:
        target = self._new(uri)
        with self._answers(uri):
            self._client.put_object(**target, Body=data, IfNoneMatch="*")

    def get_file(self, uri: str, path: Path) -> None:
        with self.open(uri) as source, path.open("wb") as target:
            while chunk := source.read(CHUNK_BYTES):
                target.write(chunk)

    def open(self, uri: str) -> BinaryIO:
        with self._answers(uri):
            answer = self._client.get_object(**self._to_read(uri))
        return cast("BinaryIO", io.BufferedReader(_Body(answer["Body"], uri), CHUNK_BYTES))

    def size(self, uri: str) -> int | None:
        try:
            with self._answers(uri):
                return int(self._client.head_object(**self._to_read(uri))["ContentLength"])
        except FileNotFoundError:
            return None

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        if not prefix_uri.endswith("/"):
            raise ValueError("the URI of a folder ends in a slash")
        place = self._to_read(prefix_uri)
        more: dict[str, str] = {}
        while True:
            with self._answers(prefix_uri):
                page = self._client.list_objects_v2(Bucket=place["Bucket"], Prefix=place["Key"], **more)
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):  # consoles make empty objects to show folders
                    yield ObjectInfo(f"s3://{place['Bucket']}/{item['Key']}", item["Size"], item["LastModified"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, uris: Iterable[str]) -> None:
        for uri in uris:  # one by one: the bulk call asks for checksums that not every server knows
            target = self._to_write(uri)
            with self._answers(uri):
                self._client.delete_object(**target)

    def presign_get(self, uri: str, *, ttl_s: int, filename: str | None = None) -> str:
        parameters: dict[str, Any] = dict(self._to_read(uri))
        if filename is not None:
            safe = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in filename)
            parameters["ResponseContentDisposition"] = f'attachment; filename="{safe}"'
        return self._signed("get_object", parameters, ttl_s)

    def presign_put(self, uri: str, *, size_bytes: int, sha256: str, ttl_s: int) -> Presigned:  # noqa: ARG002
        # The length is signed; the digest is not, as servers differ in what they check. Readers verify it.
        parameters = {**self._to_write(uri), "ContentLength": size_bytes}
        return Presigned("PUT", self._signed("put_object", parameters, ttl_s))

    def start_parts(self, uri: str, *, size_bytes: int) -> str | None:
        if size_bytes <= self._part_size:
            return None
        target = self._new(uri)
        with self._answers(uri):
            return str(self._client.create_multipart_upload(**target)["UploadId"])

    def part_links(self, uri: str, handle: str, *, size_bytes: int, ttl_s: int) -> tuple[Part, ...]:
        target = {**self._to_write(uri), "UploadId": handle}
        links: list[Part] = []
        for number, _, length in self._cut(size_bytes):
            parameters = {**target, "PartNumber": number, "ContentLength": length}
            links.append(Part(number, length, self._signed("upload_part", parameters, ttl_s)))
        return tuple(links)

    def finish_parts(self, uri: str, handle: str, *, size_bytes: int) -> bool:
        target = {**self._to_write(uri), "UploadId": handle}
        try:
            with self._answers(uri):
                sent = self._sent_parts(target)
                if sum(part["Size"] for part in sent) != size_bytes:
                    return False
                parts = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in sent]
                self._client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
        except FileNotFoundError:
            return False
        return True

    def abort_parts(self, uri: str, handle: str) -> None:
        target = {**self._to_write(uri), "UploadId": handle}
        try:
            with self._answers(uri):
                self._client.abort_multipart_upload(**target)
        except FileNotFoundError:
            return

    def check(self) -> None:
        try:
            with self._answers(self.root):
                self._probe.head_bucket(Bucket=self._bucket)
        except FileNotFoundError:
            raise DependencyDown(f"The object store has no bucket {self._bucket!r}.") from None

    def _put_in_parts(self, target: dict[str, str], path: Path, size: int) -> None:
        upload = {**target, "UploadId": self._client.create_multipart_upload(**target)["UploadId"]}

        def send(cut: tuple[int, int, int]) -> dict[str, Any]:
            number, offset, length = cut
            with path.open("rb") as file:
                file.seek(offset)
                body = file.read(length)
            answer = self._client.upload_part(**upload, PartNumber=number, Body=body)
            return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            with ThreadPoolExecutor(_PARALLEL_PARTS) as pool:
                parts = list(pool.map(send, self._cut(size)))
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
        except BaseException:
            self._client.abort_multipart_upload(**upload)
            raise

    def _cut(self, size: int) -> Sequence[tuple[int, int, int]]:
        """(number, offset, length) of each part."""
        step = max(self._part_size, -(-size // _MOST_PARTS))
        return [(i + 1, offset, min(step, size - offset)) for i, offset in enumerate(range(0, size, step))]

    def _sent_parts(self, upload: dict[str, str]) -> Sequence[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        more: dict[str, Any] = {}
        while True:
            page = self._client.list_parts(**upload, **more)
            parts += page.get("Parts", ())
            if not page.get("IsTruncated"):
                return parts
            more = {"PartNumberMarker": page["NextPartNumberMarker"]}

    def _signed(self, operation: str, parameters: dict[str, Any], ttl_s: int) -> str:
        with self._answers(self.root):
            return str(self._signer.generate_presigned_url(operation, Params=parameters, ExpiresIn=ttl_s))

    def _new(self, uri: str) -> dict[str, str]:
        if self.size(uri) is not None:
            raise ObjectExists(f"There is an object at {uri} already.")
        return self._to_write(uri)

    def _to_read(self, uri: str) -> dict[str, str]:
        return _within(uri, self._readable, "This object lies outside the places the service may read.")

    def _to_write(self, uri: str) -> dict[str, str]:
        return _within(uri, (self.root,), "This object lies outside the service's own store.")

    @contextmanager
    def _answers(self, uri: str) -> Generator[None]:
        """Turns boto's errors into ours."""
        try:
            yield
        except ClientError as error:
            raise self._meaning(error, uri) from error
        except BotoCoreError as error:
            raise DependencyDown(f"The object store does not answer ({type(error).__name__}).") from error

    def _meaning(self, error: ClientError, uri: str) -> Exception:
        code = str(cast("dict[str, Any]", error.response).get("Error", {}).get("Code", "unknown"))
        if code == "NoSuchBucket" and uri.startswith(f"s3://{self._bucket}/"):
            return DependencyDown(f"The object store has no bucket {self._bucket!r}.")
        if code in _MISSING:
            return FileNotFoundError(uri)
        if code in _TAKEN:
            return ObjectExists(f"There is an object at {uri} already.")
        if code in _REFUSED:
            return StoreRefused("The object store refuses the service's credentials.")
        if code in _FULL:
            return StoreFull("The object store has no room left.")
        return DependencyDown(f"The object store answers {code}.")


class _Body(io.RawIOBase):
    """A streamed answer as a raw file; an answer that breaks off is an outage, never a short file."""

    def __init__(self, body: Any, uri: str) -> None:
        self._body = body
        self._uri = uri

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        view = memoryview(buffer)
        try:
            data = self._body.read(len(view))
        except (BotoCoreError, OSError) as error:
            raise DependencyDown(f"The object store broke off while sending {self._uri}.") from error
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()


def _client(settings: StoreSettings, endpoint: str | None, *, attempts: int, timeout_s: float = 60) -> Any:
    secret = settings.secret_access_key
    return cast("Any", boto3).client(
        "s3",
        endpoint_url=endpoint,
        region_name=settings.region,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            signature_version="s3v4",
            request_checksum_calculation=settings.checksum,
            response_checksum_validation=settings.checksum,
            connect_timeout=min(5.0, timeout_s),
            read_timeout=timeout_s,
            retries={"mode": "standard", "total_max_attempts": attempts},
            # Servers of one's own are rarely reached as bucket.host.
            s3={"addressing_style": "path" if endpoint else "auto"},
        ),
    )


def _place(uri: str) -> tuple[str, str]:
    if not uri.startswith("s3://"):
        raise ForeignUri("This is not the URI of an object in S3.")
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket or ".." in key.split("/"):
        raise ForeignUri("This is not the URI of an object in S3.")
    return bucket, key


def _within(uri: str, roots: Sequence[str], refusal: str) -> dict[str, str]:
    bucket, key = _place(uri)
    if not any(uri.startswith(root) for root in roots):
        raise ForeignUri(refusal)
    return {"Bucket": bucket, "Key": key}
