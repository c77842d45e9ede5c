"""Every adapter keeps the promises of the object store port."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from core.platform.errors import DependencyDown
from core.platform.objects import (
    DirectoryStore,
    ForeignUri,
    MemoryStore,
    ObjectExists,
    ObjectStore,
    S3Store,
    StoreFull,
    StoreRefused,
    open_store,
    relative_path,
)
from core.platform.objects.transfer import DigestMismatch, child_uri, fetch_verified, upload_folder
from core.platform.settings import Settings, StoreSettings
from core.unlearning.job import StoredFile

pytestmark = pytest.mark.integration

SECRET = "x" * 40
MIB = 1024 * 1024


@pytest.fixture(params=["directory", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    match request.param:
        case "directory":
            url = f"file://{tmp_path}/objects with%20space"
            yield open_store(Settings.model_validate({"secret": SECRET, "store": {"url": url}}))
        case "memory":
            yield MemoryStore()
        case _:
            s3: StoreSettings = request.getfixturevalue("s3")
            yield open_store(Settings(store=s3.model_copy(update={"part_size_bytes": 5 * MIB})))


def test_what_is_stored_comes_back(store: ObjectStore, tmp_path: Path) -> None:
    uri = store.uri("a/b c/ü.bin")
    assert store.size(uri) is None
    store.put_bytes(uri, b"hello")
    assert store.size(uri) == 5
    with store.open(uri) as stream:
        assert stream.read(2) == b"he"
        assert stream.read() == b"llo"
        assert stream.read() == b""
    store.get_file(uri, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"hello"


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 11 * MIB + 3])
def test_files_of_any_size_arrive_whole(store: ObjectStore, tmp_path: Path, size: int) -> None:
    content = bytes(i * 7 % 251 for i in range(1000)) * (size // 1000 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    store.put_file(store.uri("big"), tmp_path / "file")
    with store.open(store.uri("big")) as stream:
        assert hashlib.sha256(stream.read()).digest() == hashlib.sha256(content[:size]).digest()


def test_nothing_is_ever_overwritten(store: ObjectStore, tmp_path: Path) -> None:
    uri = store.uri("once")
    store.put_bytes(uri, b"first")
    (tmp_path / "file").write_bytes(b"second")
    with pytest.raises(ObjectExists):
        store.put_bytes(uri, b"second")
    with pytest.raises(ObjectExists):
        store.put_file(uri, tmp_path / "file")
    with store.open(uri) as stream:
        assert stream.read() == b"first"
    assert [info.uri for info in store.list(store.root)] == [uri]


def test_a_missing_object_is_a_missing_file(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.open(store.uri("nothing"))
    with pytest.raises(FileNotFoundError):
        store.get_file(store.uri("nothing"), tmp_path / "x")
    assert list(store.list(store.uri("nothing/"))) == []
    store.delete([store.uri("nothing")])


def test_a_folder_lists_its_objects_and_no_others(store: ObjectStore) -> None:
    for key in ("m/v1/b", "m/v1/a b/c", "m/v10/x", "m/v1x"):
        store.put_bytes(store.uri(key), key.encode())
    prefix = store.uri("m/v1/")
    found = list(store.list(prefix))
    assert [relative_path(prefix, info.uri) for info in found] == ["a b/c", "b"]
    assert [info.size_bytes for info in found] == [10, 6]
    assert all(info.modified_at.tzinfo is not None for info in found)
    with pytest.raises(ValueError, match="slash"):
        list(store.list(store.uri("m/v1")))


def test_deleted_objects_are_gone_and_others_stay(store: ObjectStore) -> None:
    for key in ("a", "b", "c"):
        store.put_bytes(store.uri(key), b"x")
    store.delete([store.uri("a"), store.uri("c")])
    assert [info.uri for info in store.list(store.root)] == [store.uri("b")]
    store.put_bytes(store.uri("a"), b"again")


def test_places_outside_are_neither_read_nor_written(store: ObjectStore) -> None:
    root = store.root
    for uri in (f"{root}../secret", f"{root}a/../../secret", "file:///etc/passwd", "s3://other-bucket/key", "x"):
        with pytest.raises(ForeignUri):
            store.open(uri)
        with pytest.raises(ForeignUri):
            store.size(uri)
        with pytest.raises(ForeignUri):
            store.put_bytes(uri, b"")
        with pytest.raises(ForeignUri):
            store.delete([uri])


def test_a_store_that_answers_passes_its_check(store: ObjectStore) -> None:
    store.check()


def test_a_folder_is_uploaded_verified_and_fetched_again(store: ObjectStore, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "base").mkdir(parents=True)
    (source / "base" / "config.json").write_bytes(b"{}")
    (source / "model.safetensors").write_bytes(b"weights")
    prefix = store.uri("models/v2/")
    files = upload_folder(store, source, prefix)
    assert [file.path for file in files] == ["base/config.json", "model.safetensors"]
    assert child_uri(prefix, "manifest.json") in {info.uri for info in store.list(prefix)}
    for file in files:
        assert fetch_verified(store, file, target).read_bytes() == (source / file.path).read_bytes()


def test_a_file_that_is_not_the_registered_one_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes(store.uri("f"), b"evil")
    for wrong in (
        StoredFile("f", store.uri("f"), 4, hashlib.sha256(b"good").hexdigest()),
        StoredFile("f", store.uri("f"), 5, hashlib.sha256(b"evil").hexdigest()),
    ):
        with pytest.raises(DigestMismatch):
            fetch_verified(store, wrong, tmp_path)
    assert list(tmp_path.glob("f")) == []


def test_a_stored_path_must_stay_in_its_folder(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes(store.uri("f"), b"")
    for path in ("../f", "/f", "a/../../f"):
        with pytest.raises(ValueError, match="within"):
            fetch_verified(store, StoredFile(path, store.uri("f"), 0, ""), tmp_path)


# --- S3 over its wire protocol ----------------------------------------------------------------------------------


@pytest.fixture
def s3_store(s3: StoreSettings) -> S3Store:
    return S3Store(s3.model_copy(update={"part_size_bytes": 5 * MIB}))


def test_s3_links_carry_objects_without_a_key(s3_store: S3Store) -> None:
    uri = s3_store.uri("up/ü 1.bin")
    put = s3_store.presign_put(uri, size_bytes=4, sha256=hashlib.sha256(b"data").hexdigest(), ttl_s=60)
    assert put.method == "PUT"
    assert "content-length" in put.url
    assert httpx.put(put.url, headers=dict(put.headers), content=b"data").status_code == 200
    answer = httpx.get(s3_store.presign_get(uri, ttl_s=60, filename='we"ird.bin'))
    assert answer.content == b"data"
    assert answer.headers["content-disposition"] == 'attachment; filename="we_ird.bin"'


def test_s3_links_are_signed_with_version_4_for_the_public_address(s3: StoreSettings) -> None:
    store = S3Store(s3.model_copy(update={"public_endpoint_url": "https://objects.example.org"}))
    url = httpx.URL(store.presign_get(store.uri("a"), ttl_s=77))
    assert url.host == "objects.example.org"
    assert url.params["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert url.params["X-Amz-Expires"] == "77"


def test_s3_takes_large_uploads_in_parts(s3_store: S3Store) -> None:
    uri, size = s3_store.uri("parts"), 12 * MIB
    content = bytes(range(256)) * (size // 256)
    handle = s3_store.start_parts(uri, size_bytes=size)
    assert handle is not None
    parts = s3_store.part_links(uri, handle, size_bytes=size, ttl_s=60)
    assert [(part.number, part.size_bytes) for part in parts] == [(1, 5 * MIB), (2, 5 * MIB), (3, 2 * MIB)]
    offset = 0
    for part in parts:
        assert httpx.put(part.url, content=content[offset : offset + part.size_bytes], timeout=60).status_code == 200
        offset += part.size_bytes
        assert s3_store.finish_parts(uri, handle, size_bytes=size) == (offset == size)
    with s3_store.open(uri) as stream:
        assert stream.read() == content
    assert not s3_store.finish_parts(uri, handle, size_bytes=size)
    s3_store.abort_parts(uri, handle)


def test_s3_small_uploads_need_no_parts(s3_store: S3Store) -> None:
    assert s3_store.start_parts(s3_store.uri("x"), size_bytes=5 * MIB) is None


def test_s3_that_is_away_is_an_outage(s3: StoreSettings, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    store = S3Store(s3.model_copy(update={"endpoint_url": "http://127.0.0.1:9"}))
    for call in (
        store.check,
        lambda: store.open(store.uri("a")),
        lambda: store.put_file(store.uri("a"), tmp_path / "f"),
        lambda: list(store.list(store.root)),
    ):
        with pytest.raises(DependencyDown):
            call()


def test_s3_that_breaks_off_is_an_outage_and_not_a_short_file(s3: StoreSettings, tmp_path: Path) -> None:
    class Broken(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"only this")

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Broken) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            store = S3Store(s3.model_copy(update={"endpoint_url": f"http://127.0.0.1:{server.server_port}"}))
            with pytest.raises(DependencyDown, match="broke off"):
                store.get_file(store.uri("a"), tmp_path / "a")
        finally:
            server.shutdown()
            thread.join()


def test_s3_refusals_and_failures_are_told_apart(s3: StoreSettings) -> None:
    class Answering(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(int(self.path.rpartition("/")[2]))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            store = S3Store(s3.model_copy(update={"endpoint_url": f"http://127.0.0.1:{server.server_port}"}))
            assert store.size(store.uri("404")) is None
            with pytest.raises(StoreRefused):
                store.size(store.uri("403"))
            with pytest.raises(DependencyDown, match="503"):
                store.size(store.uri("503"))
            with pytest.raises(StoreFull):
                store.size(store.uri("507"))
        finally:
            server.shutdown()
            thread.join()


def test_s3_without_its_bucket_says_so(s3: StoreSettings) -> None:
    with pytest.raises(DependencyDown, match="no bucket 'absent-bucket'"):
        S3Store(s3.model_copy(update={"url": "s3://absent-bucket/x"})).check()


def test_s3_reads_configured_sources_and_never_writes_them(s3: StoreSettings) -> None:
    owner = S3Store(s3.model_copy(update={"url": f"{(s3.url or '').removesuffix('/unlearn')}/sources"}))
    owner.put_bytes(owner.uri("acme/a"), b"x")
    settings = Settings.model_validate({"store": s3, "sources": {"roots": [owner.root + "{workspace}/"]}})
    store = open_store(settings)
    assert store.size(owner.uri("acme/a")) == 1
    with pytest.raises(ForeignUri):
        store.put_bytes(owner.uri("acme/b"), b"x")
    with pytest.raises(ForeignUri):
        store.delete([owner.uri("acme/a")])


# --- directories ------------------------------------------------------------------------------------------------


def test_a_link_in_the_file_system_does_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"s")
    store = DirectoryStore(tmp_path / "objects", public_url="http://x", keyring=None)
    (tmp_path / "objects" / "door").symlink_to(tmp_path / "secret")
    with pytest.raises(ForeignUri):
        store.open(store.uri("door"))


def test_directories_outside_may_be_read_when_configured(tmp_path: Path) -> None:
    (tmp_path / "sources" / "acme").mkdir(parents=True)
    (tmp_path / "sources" / "acme" / "a b").write_bytes(b"xyz")
    settings = {
        "secret": SECRET,
        "store": {"url": f"file://{tmp_path}/objects"},
        "sources": {"roots": [f"file://{tmp_path}/sources/{{workspace}}/"]},
    }
    store = open_store(Settings.model_validate(settings))
    uri = f"file://{tmp_path}/sources/acme/a%20b"
    assert [info.uri for info in store.list(f"file://{tmp_path}/sources/acme/")] == [uri]
    assert store.size(uri) == 3
    with pytest.raises(ForeignUri):
        store.delete([uri])


def test_a_broken_write_leaves_nothing(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "objects", public_url="http://x", keyring=None)
    with store.sink(store.uri("half")) as sink:
        sink.write(b"abc")
    assert [path for path in (tmp_path / "objects").rglob("*") if path.is_file()] == []


def test_a_file_cannot_take_the_place_of_a_folder(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "objects", public_url="http://x", keyring=None)
    store.put_bytes(store.uri("a"), b"x")
    with pytest.raises(ObjectExists):
        store.put_bytes(store.uri("a/b"), b"x")
