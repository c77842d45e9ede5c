"""Erased records leave the data set's files, once no model needs them, and nothing else changes."""

import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, text

from core.datasets.editions import Editions
from core.erasure import rewriting
from core.erasure.reporting import Copies
from core.holds import service as holds
from core.holds.service import PlaceHold
from core.platform.database import transaction
from core.platform.errors import DependencyDown
from core.platform.objects import MemoryStore, ObjectInfo, S3Store
from core.platform.settings import LoopSettings, StoreSettings
from core.policies import service as policies
from core.runs.replaying import NotReplayable, rebuild
from core.unlearning.job import SELECTION_FILE
from tests.builders.erasing import AT, FILES, Site, content, empty_site, ids_in, later, site
from tests.builders.waiting import wait_until
from worker.loops import eraser, sweeper

pytestmark = pytest.mark.integration


def without(*gone: str) -> list[list[str]]:
    return [[record_id for record_id in ids if record_id not in gone] for ids in FILES.values()]


def erase(built: Site) -> bool:
    return eraser.turn(built.engine, built.store, None, lambda: AT)


def sweep(built: Site, at: datetime) -> None:
    settings = LoopSettings(orphan_age_s=1)
    sweeper.turn(built.engine, built.store, settings, lambda: at)


def policy(built: Site, name: str, **fields: int) -> str:
    with transaction(built.engine) as tx:
        policies.put(tx, workspace_id=built.caller.workspace_id, name=name, body=fields, actor="k", at=AT)
    return name


def selected(folder: Path, built: Site, files: list[str]) -> dict[str, list[str]]:
    """What a selection's places hold, by set; each must be the record that it says."""
    found: dict[str, list[str]] = {}
    held = [ids_in(built.store, built.data_format, uri) for uri in files]
    for row in pq.read_table(folder / SELECTION_FILE).to_pylist():
        assert held[row["file"]][row["row"]] == row["record_id"]
        found.setdefault(row["set"], []).append(row["record_id"])
    return found


@pytest.fixture
def s3_store(s3: StoreSettings) -> S3Store:
    return S3Store(s3)


@pytest.mark.parametrize("data_format", ["parquet", "jsonl"])
def test_from_a_finished_run_to_the_last_copy(
    emptied: Engine, s3_store: S3Store, tmp_path: Path, data_format: str
) -> None:
    built = site(emptied, s3_store, data_format=data_format)
    originals, before = built.uris(), built.ask("select fingerprint from datasets")
    assert not erase(built)
    request_id = built.unlearn("r-1", "r-6")
    first = built.ask("select id from runs")
    assert erase(built)
    assert not erase(built)
    assert built.content() == without("r-1", "r-6")
    assert built.uris()[0].startswith(s3_store.uri(f"datasets/{built.dataset_id}/2-1/"))
    assert built.uris()[1] == originals[1]
    (told,) = built.events("dataset.files_rewritten")
    assert (told["records_removed"], told["files"], told["fingerprint_before"]) == (2, 1, before)
    assert built.ask("select fingerprint from datasets") == told["fingerprint"] != before
    with transaction(emptied) as tx:
        assert [(row.edition, row.fingerprint) for row in Editions(tx).history(built.dataset_id)] == [
            (1, before),
            (2, told["fingerprint"]),
        ]

    # A later run reads the new files, and what it only looks at from the old one.
    built.submit("r-3", "t-1")
    second = built.plan()
    assert second is not None
    lease, prepared = built.begin(second, tmp_path)
    files = [file.uri for file in prepared.job.dataset.files]
    assert files == [*built.uris(), originals[0]]
    chosen = selected(tmp_path, built, files)
    assert chosen == {
        "earlier": ["r-1", "r-6"],
        "forget": ["r-3"],
        "holdout": ["t-0", "t-2"],
        "retain": ["r-0", "r-2", "r-4", "r-5", "r-7", "s-0", "s-1", "s-2", "s-3"],
    }
    built.end(lease, prepared)
    assert erase(built)
    assert built.content() == without("r-1", "r-6", "r-3", "t-1")

    # Each run can be done again from the files that it read.
    for run_id, of_then in ((first, originals), (second, files[:2])):
        with transaction(emptied) as tx:
            rebuilt = rebuild(tx, run_id=run_id, folder=tmp_path, at=AT)
        assert [file.uri for file in rebuilt.job.dataset.files] == of_then
        selected(tmp_path, built, of_then)

    # Nothing is purged before its time, then everything is.
    sweep(built, later(29))
    assert all(s3_store.size(uri) is not None for uri in originals)
    sweep(built, later(31))
    assert [s3_store.size(uri) for uri in (originals[0], originals[1], files[0])] == [None, None, None]
    assert built.content() == without("r-1", "r-6", "r-3", "t-1")
    assert built.ask("select old_copies_purged_at from deletion_requests where id = :id", id=request_id) == later(31)
    assert request_id in [told["id"] for told in built.events("deletion_request.old_copies_purged")]
    with transaction(emptied) as tx, pytest.raises(NotReplayable):
        rebuild(tx, run_id=first, folder=tmp_path, at=AT)
    assert {"dataset.files_rewritten", "dataset.files_purged", "model_version.purged"} <= built.audited()


def test_a_record_stays_while_a_model_needs_it(emptied: Engine) -> None:
    built = site(emptied, MemoryStore(), models=("m", "n"))
    built.unlearn("r-1", model="m")
    assert built.ask("select state from records where record_id = 'r-1'") == "erased"
    assert not erase(built)
    built.unlearn("r-1", model="n")
    assert erase(built)
    assert built.content() == without("r-1")
    # A model that came later has not seen it: nothing is left to be asked for.
    built.add_model("later")
    view = built.submit("r-1")
    assert (view.request.status, view.request.already_erased) == ("completed", 1)


def test_policies_say_how_long_originals_are_kept(emptied: Engine) -> None:
    built = empty_site(emptied, MemoryStore())
    built.add_dataset()
    built.add_model("m", policy(built, "soon", recheck_days=0, originals_days=3))
    original = built.uris()[0]
    built.unlearn("r-1")
    erase(built)
    sweep(built, later(2))
    assert built.store.size(original) is not None
    sweep(built, later(3.1))
    assert built.store.size(original) is None


def test_files_that_a_run_reads_are_not_purged(emptied: Engine, tmp_path: Path) -> None:
    built = empty_site(emptied, MemoryStore())
    built.add_dataset()
    now = policy(built, "now", recheck_days=0)
    built.add_model("m", now)
    built.add_model("n", now)
    built.unlearn("r-1")
    original = built.uris()[0]
    built.submit("r-2", model="n")
    run_id = built.plan()
    assert run_id is not None
    lease, prepared = built.begin(run_id, tmp_path)
    assert erase(built)
    sweep(built, later(1))
    assert built.store.size(original) is not None
    built.end(lease, prepared)
    sweep(built, later(1))
    assert built.store.size(original) is None


def test_files_of_others_are_not_touched(emptied: Engine) -> None:
    store = MemoryStore(readable=("mem://theirs/",))
    built = empty_site(emptied, store)
    for name, ids in FILES.items():
        store.place(f"mem://theirs/people/{name}.parquet", content("parquet", ids))
    built.add_dataset(source_uri="mem://theirs/people/")
    built.add_model("m")
    request_id = built.unlearn("r-1")
    assert erase(built)
    (told,) = built.events("dataset.original_retained")
    assert told["uris"] == ["mem://theirs/people/one.parquet"]
    assert built.uris()[0].startswith("mem://store/datasets/")
    sweep(built, later(31))
    with transaction(emptied) as tx:
        report = Copies(tx, built.caller.workspace_id, start=AT, end=later(40), now=later(31)).report()
    assert [copy.state for copy in report.copies if copy.kind == "dataset_file"] == ["waiting_for_owner"]
    gone = "select old_copies_purged_at is not null from deletion_requests where id = :id"
    assert not built.ask(gone, id=request_id)
    store._objects.pop("mem://theirs/people/one.parquet")  # pyright: ignore[reportPrivateUsage]
    sweep(built, later(32))
    assert built.ask(gone, id=request_id)


def test_never_means_never(emptied: Engine) -> None:
    built = empty_site(emptied, MemoryStore())
    built.add_dataset(rewrite="never")
    built.add_model("m")
    built.unlearn("r-1")
    assert not erase(built)
    with transaction(emptied) as tx:
        report = Copies(tx, built.caller.workspace_id, start=AT, end=later(1), now=AT).report()
    assert [(one.dataset, one.records, one.why) for one in report.datasets] == [("people", 1, "never")]


class Failing(MemoryStore):
    """A store that goes away at its nth call about a data set's files."""

    def __init__(self, nth: int) -> None:
        super().__init__()
        self.left = nth
        self.armed = False

    def _count(self, uri: str) -> None:
        if self.armed and not uri.startswith(self.uri("models/")):
            self.left -= 1
            if self.left == 0:
                raise DependencyDown("The store is away.")

    def open(self, uri: str) -> BinaryIO:
        self._count(uri)
        return super().open(uri)

    def put_bytes(self, uri: str, data: bytes) -> None:
        self._count(uri)
        super().put_bytes(uri, data)


class Aged(MemoryStore):
    """The same objects, two days older."""

    def __init__(self, other: MemoryStore) -> None:
        super().__init__()
        self._objects = other._objects  # pyright: ignore[reportPrivateUsage]

    def list(self, prefix_uri: str) -> Iterable[ObjectInfo]:  # type: ignore[override]
        return iter([ObjectInfo(i.uri, i.size_bytes, later(-2)) for i in super().list(prefix_uri)])


@pytest.mark.parametrize("nth", range(1, 7))
def test_a_store_that_goes_away_leaves_everything_as_it_was(emptied: Engine, nth: int) -> None:
    """Two files are read, stored and read back: six calls."""
    store = Failing(nth)
    built = site(emptied, store)
    built.unlearn("r-1", "s-2")
    before = built.uris()
    store.armed = True
    with pytest.raises(DependencyDown):
        erase(built)
    store.armed = False
    _goes_on(built, before, "r-1", "s-2")


@pytest.mark.parametrize("step", ["removable", "policies", "readable_until", "switch", "begin", "note"])
def test_a_process_that_dies_in_the_switch_leaves_everything_as_it_was(
    emptied: Engine, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    built = site(emptied, MemoryStore())
    built.unlearn("r-1", "s-2")
    before = built.uris()
    owner = {"switch": Editions, "begin": Editions, "note": rewriting.audit}.get(step, rewriting.Rewrites)
    whole, calls = getattr(owner, step), list[int]()

    def dying(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if step == "removable" and len(calls) == 1:  # the claim
            return whole(*args, **kwargs)
        if step in ("switch", "begin"):
            whole(*args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(owner, step, dying)
        with pytest.raises(KeyboardInterrupt):
            erase(built)
    _goes_on(built, before, "r-1", "s-2")


def _goes_on(built: Site, before: list[str], *gone: str) -> None:
    assert built.uris() == before
    assert built.content() == without()
    assert built.ask("select count(*) from records where last_edition is not null") == 0
    assert not erase(built)  # its lease still runs
    with transaction(built.engine) as tx:
        tx.execute(text("update datasets set rewrite_lease_until = now() - interval '1 second'"))
    assert erase(built)
    assert built.content() == without(*gone)
    assert built.ask("select count(*) from superseded_files") == 2
    assert len(built.events("dataset.files_rewritten")) == 1
    assert isinstance(built.store, MemoryStore)
    sweeper.turn(built.engine, Aged(built.store), LoopSettings(), lambda: AT)
    left = {info.uri for info in built.store.list(built.store.uri("datasets/"))}
    assert left == set(built.uris())
    assert built.content() == without(*gone)


def test_an_attempt_that_was_overtaken_switches_nothing(emptied: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    built = site(emptied, MemoryStore())
    built.unlearn("r-1")
    check = rewriting._check  # pyright: ignore[reportPrivateUsage]

    def overtaken(*args: object) -> None:
        monkeypatch.setattr(rewriting, "_check", check)
        with transaction(emptied) as tx:
            tx.execute(text("update datasets set rewrite_lease_until = now() - interval '1 second'"))
        assert erase(built)
        check(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(rewriting, "_check", overtaken)
    assert not erase(built)
    assert built.content() == without("r-1")
    assert built.ask("select edition from datasets") == 2


def test_an_attempt_that_is_out_of_time_switches_nothing(emptied: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has overtaken it, but its files may be swept away at any moment."""
    built = site(emptied, MemoryStore())
    built.unlearn("r-1")
    check = rewriting._check  # pyright: ignore[reportPrivateUsage]

    def slow(*args: object) -> None:
        monkeypatch.setattr(rewriting, "_check", check)
        check(*args)  # type: ignore[arg-type]
        with transaction(emptied) as tx:
            tx.execute(text("update datasets set rewrite_lease_until = now() - interval '1 second'"))

    monkeypatch.setattr(rewriting, "_check", slow)
    assert not erase(built)
    assert built.content() == without()
    assert erase(built)
    assert built.content() == without("r-1")


def test_a_switch_in_the_midst_of_a_sweep_keeps_its_files(emptied: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep has asked one thing about the new files, and the switch comes before it can ask the other."""
    built = site(emptied, MemoryStore())
    built.unlearn("r-1")
    asked, switched = threading.Event(), threading.Event()
    switch = rewriting._switch  # pyright: ignore[reportPrivateUsage]

    def held_up(read: Callable[..., object]) -> Callable[..., object]:
        def reading(*args: object) -> object:
            found = read(*args)
            if not asked.is_set():
                asked.set()
                wait_until(lambda: switched.is_set() or _waiting(emptied), what="the switch, or that it waits")
            return found

        return reading

    monkeypatch.setattr(rewriting.Rewrites, "at_work", held_up(rewriting.Rewrites.at_work))
    monkeypatch.setattr(rewriting.Rewrites, "in_use", held_up(rewriting.Rewrites.in_use))
    aged = Aged(built.store)  # type: ignore[arg-type]
    sweeping = threading.Thread(target=sweeper.turn, args=(built.engine, aged, LoopSettings(), lambda: AT))

    def meeting(*args: Any, **kwargs: Any) -> object:
        sweeping.start()
        assert asked.wait(30)
        return switch(*args, **kwargs)

    monkeypatch.setattr(rewriting, "_switch", meeting)
    assert erase(built)
    switched.set()
    sweeping.join(30)
    assert built.content() == without("r-1")


def _waiting(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.execute(text("select exists (select from pg_locks where not granted)")).scalar_one())


def test_a_file_that_was_altered_is_left_and_the_data_set_says_so(emptied: Engine) -> None:
    store = MemoryStore()
    built = site(emptied, store)
    built.unlearn("r-1")
    store.place(built.uris()[0], b"something else")
    assert not erase(built)
    assert built.ask("select rewrite_error->>'code' from datasets") == "digest_mismatch"
    assert built.ask("select edition from datasets") == 1


def test_an_index_that_does_not_fit_stops_the_switch(emptied: Engine) -> None:
    built = site(emptied, MemoryStore())
    built.unlearn("r-1")
    with transaction(emptied) as tx:
        tx.execute(text("update records set row = case row when 4 then 5 else 4 end where row in (4, 5) and file = 0"))
    assert not erase(built)
    assert built.ask("select rewrite_error->>'code' from datasets") == "not_as_indexed"
    assert built.content() == without()


def test_a_hold_that_is_placed_meanwhile_stops_the_switch(emptied: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    built = site(emptied, MemoryStore())
    built.unlearn("r-1")
    check = rewriting._check  # pyright: ignore[reportPrivateUsage]

    def held(*args: object) -> None:
        check(*args)  # type: ignore[arg-type]
        with transaction(emptied) as tx:
            holds.place(tx, caller=built.caller, command=PlaceHold("dataset", "people", "a case"), at=AT)

    monkeypatch.setattr(rewriting, "_check", held)
    assert not erase(built)
    assert built.content() == without()
