"""What a source on a disk may hold: nothing that leads out of it, and no name that could lead astray later."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.platform.clock import utc_now
from core.platform.errors import DomainError
from core.platform.objects import DirectoryStore, ForeignUri, MemoryStore, ObjectInfo, ObjectStore, open_store
from core.platform.settings import Settings
from core.uploads.errors import SourceNotFound
from core.uploads.paths import path_problem
from core.uploads.sources import SourceFile, find


class Disk:
    """A store in a directory, and imports beside it in which ``acme`` and ``other`` have a folder each."""

    def __init__(self, folder: Path) -> None:
        self.objects, self.acme, self.other = folder / "objects", folder / "imports/acme", folder / "imports/other"
        self.shared = folder / "shared"
        for each in (self.acme, self.other, self.shared, folder / "elsewhere"):
            each.mkdir(parents=True)
            (each / "secret.parquet").write_bytes(b"secret")
        roots = [f"file://{folder}/imports/{{workspace}}/", f"file://{folder}/shared/"]
        given: dict[str, Any] = {"store": {"url": f"file://{self.objects}"}, "sources": {"roots": roots}}
        self.store = open_store(Settings.model_validate(given))
        self.store.put_bytes(self.store.uri("uploads/ws_other/secret.parquet"), b"secret")
        (self.acme / "secret.parquet").unlink()
        (self.acme / "own").mkdir()
        (self.acme / "own" / "a.parquet").write_bytes(b"a")


class Bucket(MemoryStore):
    """A store in which somebody else has put objects under these keys."""

    def __init__(self, *keys: str) -> None:
        super().__init__()
        self._keys = keys

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        return iter([ObjectInfo(prefix_uri + key, 1, utc_now()) for key in self._keys])


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def _found(store: ObjectStore, folder: Path) -> tuple[SourceFile, ...]:
    return find(store, f"{folder.as_uri()}/").files


def _refused(store: ObjectStore, folder: Path) -> None:
    with pytest.raises(SourceNotFound) as refusal:
        _found(store, folder)
    assert [problem.pointer for problem in refusal.value.problems] == ["/source_uri"]


@pytest.mark.parametrize(
    "target", ["imports/other", "objects/uploads/ws_other", "shared", "elsewhere", "imports/acme/../other"]
)
def test_a_link_leads_neither_to_another_workspace_nor_into_the_store_nor_elsewhere(
    disk: Disk, tmp_path: Path, target: str
) -> None:
    (disk.acme / "own" / "door.parquet").symlink_to(tmp_path / target / "secret.parquet")
    _refused(disk.store, disk.acme / "own")
    (disk.acme / "house").symlink_to(tmp_path / target)
    _refused(disk.store, disk.acme / "house")
    for way in ("own/door.parquet", "house/secret.parquet"):
        with pytest.raises(ForeignUri):
            disk.store.open((disk.acme / way).as_uri())
        with pytest.raises(SourceNotFound):
            find(disk.store, (disk.acme / way).as_uri())


def test_a_link_within_the_workspaces_own_folder_is_followed(disk: Disk) -> None:
    (disk.acme / "snapshot").mkdir()
    (disk.acme / "snapshot" / "b.parquet").symlink_to("../own/a.parquet")
    (file,) = _found(disk.store, disk.acme / "snapshot")
    assert (file.path, file.size_bytes) == ("b.parquet", 1)
    with disk.store.open(file.uri) as opened:
        assert opened.read() == b"a"


def test_a_root_may_itself_be_behind_a_link(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "volume")
    (tmp_path / "imports").symlink_to(tmp_path / "volume" / "imports")
    roots = [f"file://{tmp_path}/imports/{{workspace}}/"]
    given: dict[str, Any] = {"store": {"url": f"file://{disk.objects}"}, "sources": {"roots": roots}}
    store = open_store(Settings.model_validate(given))
    assert [file.path for file in _found(store, tmp_path / "imports" / "acme" / "own")] == ["a.parquet"]
    (disk.acme / "own" / "door.parquet").symlink_to(disk.other / "secret.parquet")
    _refused(store, tmp_path / "imports" / "acme" / "own")


def test_the_store_inside_a_root_is_read_by_the_service_and_by_no_link(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "store": {"url": f"file://{tmp_path}/objects"},
        "sources": {"roots": [f"file://{tmp_path}/"]},
    }
    store = open_store(Settings.model_validate(given))
    store.put_bytes(store.uri("a"), b"x")
    assert store.size(store.uri("a")) == 1
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "door").symlink_to(tmp_path / "objects" / "a")
    _refused(store, tmp_path / "source")


def test_links_in_a_circle_and_links_to_nothing_are_no_outage(disk: Disk) -> None:
    (disk.acme / "own" / "nothing").symlink_to("absent")
    assert [file.path for file in _found(disk.store, disk.acme / "own")] == ["a.parquet"]
    (disk.acme / "own" / "circle").symlink_to("circle")
    _refused(disk.store, disk.acme / "own")
    _refused(disk.store, disk.acme / "own" / "circle")


@pytest.mark.parametrize("name", ["x" * 256, "%2e%2e", "%00", "\\..\\x", "x" * 100 + "/" + "y" * 1000])
def test_a_source_that_cannot_be_there_is_not_found(disk: Disk, name: str) -> None:
    uri = f"{disk.acme.as_uri()}/{name}"
    for spelled in (uri, f"{uri}/"):
        with pytest.raises(SourceNotFound):
            find(disk.store, spelled)


@pytest.mark.parametrize(
    "name", [b"a\nb", b"a\x1b[2J", b"a\x7f", b"a\\b", b"\xff.parquet", "a\u202eb".encode(), b"x" * 201], ids=repr
)
def test_names_that_could_lead_astray_are_refused(disk: Disk, name: bytes) -> None:
    (Path(os.fsdecode(os.fsencode(disk.acme) + b"/own/" + name))).write_bytes(b"")
    _refused(disk.store, disk.acme / "own")


@pytest.mark.parametrize("key", ["../other/x", "a/../../x", "./x", "/x", "a//x", "a\nx", "\u202ex", "a\\..\\x"])
def test_keys_of_a_bucket_that_are_no_paths_are_refused(key: str) -> None:
    store = Bucket("ordinary", key)
    with pytest.raises(SourceNotFound, match="name that is not taken"):
        find(store, store.uri("source/"))
    assert len(find(Bucket("ordinary", "a/b"), store.uri("source/")).files) == 2


_PATHS = st.text(st.sampled_from("ab.%2e/~ ü\u202e\\\n\0"), max_size=12) | st.text(max_size=12)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_PATHS)
def test_every_path_that_is_taken_stays_in_its_folder_and_comes_back(tmp_path: Path, path: str) -> None:
    if path_problem(path) is not None:
        return
    store = DirectoryStore(tmp_path / "objects", public_url="http://x", keyring=None)
    uri = store.uri(f"uploads/ws/up/{path}")
    store.put_bytes(uri, b"x")
    try:
        written = [one for one in tmp_path.rglob("*") if one.is_file()]
        assert [one.relative_to(tmp_path / "objects/uploads/ws/up").as_posix() for one in written] == [path]
        assert [file.path for file in find(store, store.uri("uploads/ws/up/")).files] == [path]
    finally:
        store.delete([uri])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("ab./%2e5cf\\\0\n")) | st.text())
def test_no_uri_writes_outside_the_store(tmp_path: Path, rest: str) -> None:
    store = DirectoryStore(tmp_path / "objects", public_url="http://x", keyring=None)
    for uri in (store.root + rest, f"{tmp_path.as_uri()}/{rest}", f"{store.root}../{rest}"):
        with suppress(DomainError):
            store.put_bytes(uri, b"x")
    assert [one.name for one in tmp_path.iterdir()] == ["objects"]
