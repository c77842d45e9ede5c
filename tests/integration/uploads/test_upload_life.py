"""From announcement to use: every byte is verified, on every store."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy.orm import Session

from core.access.principal import Principal
from core.platform.errors import IllegalTransition
from core.platform.objects import DirectoryStore, MemoryStore, ObjectStore, open_store
from core.platform.objects.tokens import read
from core.platform.secrets import Keyring
from core.platform.settings import Settings, StoreSettings, UploadSettings
from core.uploads import service
from core.uploads.errors import UploadExpired, UploadNotComplete, UploadNotFound, UploadRejected, UploadUsed
from core.uploads.lifecycle import UploadStatus, advance
from core.uploads.service import AnnouncedFile, Place
from core.uploads.tables import Upload

pytestmark = pytest.mark.integration

NOW = datetime(2031, 3, 1, tzinfo=UTC)
LIMITS = UploadSettings(ttl_s=3600)
MIB = 1024 * 1024
SECRET = "x" * 40


def announced(path: str, content: bytes) -> AnnouncedFile:
    return AnnouncedFile(path, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture(params=["directory", "s3"])
def real_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    if request.param == "directory":
        yield open_store(Settings.model_validate({"secret": SECRET, "store": {"url": f"file://{tmp_path}/objects"}}))
        return
    s3: StoreSettings = request.getfixturevalue("s3")
    yield open_store(Settings(store=s3.model_copy(update={"part_size_bytes": 5 * MIB})))


def send(store: ObjectStore, place: Place, content: bytes) -> None:
    """What a client does with a place; a directory's links are served by a route, so its sink is used directly."""
    if isinstance(store, DirectoryStore):
        assert place.request is not None
        token = place.request.url.rpartition("/")[2]
        link = read(Keyring(SECRET.encode()), token, method="PUT", at=datetime.now(UTC))
        with store.sink(link.uri, size_bytes=link.size_bytes, sha256=link.sha256) as sink:
            sink.write(content)
            sink.commit()
        return
    requests = [(place.request.url, content)] if place.request else []
    offset = 0
    for part in place.parts or ():
        requests.append((part.url, content[offset : offset + part.size_bytes]))
        offset += part.size_bytes
    for url, piece in requests:
        assert httpx.put(url, content=piece, timeout=60).status_code == 200


def opened(tx: Session, store: ObjectStore, caller: Principal, *files: AnnouncedFile) -> Upload:
    return service.open_upload(
        tx, store, workspace_id=caller.workspace_id, actor="k", files=files, limits=LIMITS, at=NOW
    )


def completed(tx: Session, store: ObjectStore, caller: Principal, upload: Upload) -> Upload:
    return service.complete(tx, store, workspace_id=caller.workspace_id, actor="k", upload_id=upload.id, at=NOW)


def test_files_arrive_are_verified_and_used_once(tx: Session, real_store: ObjectStore, caller: Principal) -> None:
    contents = {"a/b c.bin": b"small", "big.bin": bytes(range(256)) * (44 * 1024), "empty": b""}
    upload = opened(tx, real_store, caller, *(announced(path, content) for path, content in contents.items()))
    places = service.places(real_store, upload, ttl_s=60, at=NOW)
    assert [place.path for place in places] == list(contents)
    for place in places:
        send(real_store, place, contents[place.path])
    assert completed(tx, real_store, caller, upload).status == "complete"
    assert completed(tx, real_store, caller, upload).status == "complete", "completing twice is harmless"
    prefix, files = service.use(tx, workspace_id=caller.workspace_id, actor="k", upload_id=upload.id, at=NOW)
    assert [file.path for file in files] == list(contents)
    assert all(file.uri.startswith(prefix) for file in files)
    for file in files:
        with real_store.open(file.uri) as stream:
            assert stream.read() == contents[file.path]
    with pytest.raises(UploadUsed):
        service.use(tx, workspace_id=caller.workspace_id, actor="k", upload_id=upload.id, at=NOW)


def test_large_files_come_in_parts_where_the_store_wants_them(
    tx: Session, s3: StoreSettings, caller: Principal
) -> None:
    store = open_store(Settings(store=s3.model_copy(update={"part_size_bytes": 5 * MIB})))
    content = bytes(12 * MIB)
    upload = opened(tx, store, caller, announced("big", content))
    (place,) = service.places(store, upload, ttl_s=60, at=NOW)
    assert place.request is None
    assert [part.size_bytes for part in place.parts or ()] == [5 * MIB, 5 * MIB, 2 * MIB]
    assert place.parts is not None
    httpx.put(place.parts[0].url, content=content[: 5 * MIB], timeout=60)
    with pytest.raises(UploadRejected) as refusal:
        completed(tx, store, caller, upload)
    assert [problem.code for problem in refusal.value.problems] == ["file_missing"]
    send(store, place, content)
    assert completed(tx, store, caller, upload).status == "complete"


def test_wrong_files_are_named_and_can_be_sent_again(tx: Session, store: MemoryStore, caller: Principal) -> None:
    files = [announced(path, b"good") for path in ("ok", "missing", "short", "evil")]
    upload = opened(tx, store, caller, *files)
    uris = {row["path"]: row["uri"] for row in upload.files}
    store.put_bytes(uris["ok"], b"good")
    store.put_bytes(uris["short"], b"goo")
    store.put_bytes(uris["evil"], b"evil")
    with pytest.raises(UploadRejected) as refusal:
        completed(tx, store, caller, upload)
    assert [(problem.pointer, problem.code) for problem in refusal.value.problems] == [
        ("/files/1", "file_missing"),
        ("/files/2", "size_mismatch"),
        ("/files/3", "digest_mismatch"),
    ]
    assert upload.status == "open"
    with pytest.raises(UploadNotComplete):
        service.use(tx, workspace_id=caller.workspace_id, actor="k", upload_id=upload.id, at=NOW)
    for path in ("missing", "short", "evil"):
        store.put_bytes(uris[path], b"good")
    assert completed(tx, store, caller, upload).status == "complete"


def test_unacceptable_announcements_are_refused(tx: Session, store: MemoryStore, caller: Principal) -> None:
    few = UploadSettings(max_files=2, max_bytes=10)
    for files, code in (
        ([announced("../x", b"")], "bad_path"),
        ([announced("x", b""), announced("x", b"")], "duplicate_path"),
        ([announced(str(i), b"") for i in range(3)], "file_count"),
        ([], "file_count"),
        ([announced("x", b"12345678901")], "too_large"),
    ):
        with pytest.raises(UploadRejected) as refusal:
            service.open_upload(tx, store, workspace_id=caller.workspace_id, actor="k", files=files, limits=few, at=NOW)
        assert code in [problem.code for problem in refusal.value.problems]


def test_another_workspace_has_no_such_upload(
    tx: Session, store: MemoryStore, caller: Principal, stranger: Principal
) -> None:
    upload = opened(tx, store, caller, announced("x", b""))
    with pytest.raises(UploadNotFound):
        completed(tx, store, stranger, upload)
    with pytest.raises(UploadNotFound):
        service.Uploads(tx).get(stranger.workspace_id, upload.id)


def test_an_upload_ends_in_time(tx: Session, store: MemoryStore, caller: Principal) -> None:
    late = NOW + timedelta(seconds=3600)
    upload = opened(tx, store, caller, announced("x", b"x"))
    used = opened(tx, store, caller, announced("x", b"x"))
    for one in (upload, used):
        store.put_bytes(one.files[0]["uri"], b"x")
    completed(tx, store, caller, used)
    service.use(tx, workspace_id=caller.workspace_id, upload_id=used.id, at=NOW)
    assert service.expire(tx, store, at=late - timedelta(seconds=1)) == 0
    (place,) = service.places(store, upload, ttl_s=60, at=late)
    assert place.request is None
    with pytest.raises(UploadExpired):
        service.complete(tx, store, workspace_id=caller.workspace_id, actor="k", upload_id=upload.id, at=late)
    assert service.expire(tx, store, at=late) == 1
    assert service.expire(tx, store, at=late) == 0
    assert store.size(upload.files[0]["uri"]) is None
    assert store.size(used.files[0]["uri"]) == 1
    with pytest.raises(UploadExpired):
        completed(tx, store, caller, upload)


def test_what_a_failed_user_gives_back_can_be_used_again(tx: Session, store: MemoryStore, caller: Principal) -> None:
    upload = opened(tx, store, caller, announced("x", b"x"))
    store.put_bytes(upload.files[0]["uri"], b"x")
    completed(tx, store, caller, upload)
    prefix, files = service.use(tx, workspace_id=caller.workspace_id, actor="k", upload_id=upload.id, at=NOW)
    assert service.used(tx, prefix_uri=prefix) == files
    service.release(tx, prefix_uri=prefix, at=NOW)
    service.release(tx, prefix_uri="mem://nothing/", at=NOW)
    assert service.used(tx, prefix_uri=prefix) == ()
    assert service.use(tx, workspace_id=caller.workspace_id, actor="k", upload_id=upload.id, at=NOW) == (prefix, files)


def test_statuses_move_along_the_table_only() -> None:
    allowed = {
        ("open", "complete"),
        ("open", "expired"),
        ("complete", "used"),
        ("complete", "expired"),
        ("used", "complete"),
    }
    for before in UploadStatus:
        for after in UploadStatus:
            if (before, after) in allowed:
                assert advance(before, after) == after
            else:
                with pytest.raises(IllegalTransition):
                    advance(before, after)
