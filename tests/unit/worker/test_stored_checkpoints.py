"""Checkpoints in a store: sealed, at most two, and a bad one is stepped over."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from core.platform.errors import DependencyDown
from core.platform.objects import MemoryStore
from core.unlearning.checkpoint import State
from core.unlearning.job import PUT_AWAY_FILE, Checkpointing
from worker.checkpoints import StoredCheckpoints

T = TypeVar("T")
JOB, OTHER_JOB = "a" * 64, "b" * 64
SECRET = "a name that is to be forgotten"
PLAN = Checkpointing("mem://store/checkpoints/run_1/", "11" * 32, every_s=60, every_steps=0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def at_once(work: Callable[[], T]) -> T:
    return work()


def shelf(
    store: MemoryStore, folder: Path, *, plan: Checkpointing = PLAN, attempt: int = 1, clock: Clock | None = None
) -> StoredCheckpoints:
    clock = clock or Clock()
    return StoredCheckpoints(store, plan, attempt=attempt, folder=folder, patiently=at_once, clock=clock)


def state(step: int) -> State:
    return State({"weight": torch.full((3,), float(step))}, {"step": step, "who": SECRET})


def keep(store: MemoryStore, folder: Path, *steps: int, attempt: int = 1, job: str = JOB) -> None:
    for step in steps:
        with shelf(store, folder, attempt=attempt) as checkpoints:
            checkpoints.keep(job, step, state(step))


def steps_found(store: MemoryStore, folder: Path, *, plan: Checkpointing = PLAN, job: str = JOB) -> list[int]:
    with shelf(store, folder, plan=plan) as checkpoints:
        found = list(checkpoints.found(job))
    assert all(torch.equal(one.tensors["weight"], torch.full((3,), float(one.facts["step"]))) for one in found)
    return [one.facts["step"] for one in found]


def uris(store: MemoryStore) -> list[str]:
    return [info.uri for info in store.list(store.root)]


def test_the_two_newest_are_kept_and_found_newest_first(tmp_path: Path) -> None:
    store = MemoryStore()
    keep(store, tmp_path, 9, 10, 11)
    assert steps_found(store, tmp_path) == [11, 10]
    assert len(uris(store)) == 4
    keep(store, tmp_path, 4, attempt=2)  # an attempt that had to begin anew
    assert steps_found(store, tmp_path) == [4, 11]
    assert not list(tmp_path.iterdir())


def test_a_worker_that_shuts_down_has_the_run_put_away_once_even_while_another_checkpoint_is_on_its_way(
    tmp_path: Path,
) -> None:
    sent = threading.Event()

    class Slow(MemoryStore):
        def put_file(self, uri: str, path: Path) -> None:
            sent.wait(10)
            super().put_file(uri, path)

    with shelf(store := Slow(), tmp_path) as checkpoints:
        checkpoints.keep(JOB, 3, state(3))
        assert not checkpoints.due(4)
        (tmp_path / PUT_AWAY_FILE).touch()
        assert checkpoints.due(4)
        assert not checkpoints.due(0)
        checkpoints.keep(JOB, 4, state(4))
        assert not checkpoints.due(4)
        sent.set()
    assert steps_found(store, tmp_path) == [4, 3]


def test_nothing_can_be_read_without_the_key(tmp_path: Path) -> None:
    store = MemoryStore()
    keep(store, tmp_path, 1)
    for uri in uris(store):
        with store.open(uri) as stream:
            assert SECRET.encode() not in stream.read()
    plan = Checkpointing(PLAN.uri, "22" * 32, 60, 0)
    assert steps_found(store, tmp_path, plan=plan) == []


def test_another_jobs_checkpoints_are_not_taken(tmp_path: Path) -> None:
    store = MemoryStore()
    keep(store, tmp_path, 1)
    keep(store, tmp_path, 2, job=OTHER_JOB)
    assert steps_found(store, tmp_path) == [1]
    (theirs,) = (uri for uri in uris(store) if OTHER_JOB[:32] in uri and uri.endswith("state.sealed"))
    store.delete([uri for uri in uris(store) if JOB[:32] in uri])
    for name in ("state.sealed", "manifest.json"):  # nor when somebody has put them in another's place
        content = (
            store.open(theirs.replace("state.sealed", name)).read().replace(OTHER_JOB[:32].encode(), JOB[:32].encode())
        )
        store.put_bytes(theirs.replace(OTHER_JOB[:32], JOB[:32]).replace("state.sealed", name), content)
    assert steps_found(store, tmp_path) == []


@pytest.mark.parametrize("harm", ["damaged", "missing", "no manifest", "wordless manifest"])
def test_a_bad_checkpoint_is_stepped_over(tmp_path: Path, harm: str) -> None:
    store = MemoryStore()
    keep(store, tmp_path, 1, 2)
    sealed, manifest = f"{PLAN.uri}{JOB[:32]}/1-2/state.sealed", f"{PLAN.uri}{JOB[:32]}/1-2/manifest.json"
    content = store.open(sealed).read()
    harmed = manifest if "manifest" in harm else sealed
    store.delete([harmed])
    if harm == "damaged":
        store.put_bytes(sealed, content[:-1] + bytes([content[-1] ^ 1]))
    if harm == "wordless manifest":
        store.put_bytes(manifest, b"{}")
    assert steps_found(store, tmp_path) == [1]


def test_what_is_half_written_is_removed_by_the_next(tmp_path: Path) -> None:
    store = MemoryStore()
    half = f"{PLAN.uri}{JOB[:32]}/1-7/state.sealed"
    store.put_bytes(half, b"x")
    keep(store, tmp_path, 8)
    assert half not in uris(store)


def test_it_is_due_by_time_or_by_steps(tmp_path: Path) -> None:
    clock = Clock()
    with shelf(MemoryStore(), tmp_path, clock=clock) as by_time:
        clock.now = 100  # loading has taken that long
        list(by_time.found(JOB))
        assert not by_time.due(1)
        clock.now = 159
        assert not by_time.due(2)
        clock.now = 160
        assert by_time.due(3)
    plan = Checkpointing(PLAN.uri, PLAN.key, every_s=0, every_steps=5)
    with shelf(MemoryStore(), tmp_path, plan=plan, clock=clock) as by_steps:
        clock.now = 10**6
        assert [step for step in range(1, 16) if by_steps.due(step)] == [5, 10, 15]


class Slow(MemoryStore):
    """A store that takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def put_bytes(self, uri: str, data: bytes) -> None:
        assert self.go.wait(30)
        super().put_bytes(uri, data)


def test_a_slow_store_makes_checkpoints_rarer_and_holds_nobody_up(tmp_path: Path) -> None:
    store = Slow()
    with shelf(store, tmp_path, plan=Checkpointing(PLAN.uri, PLAN.key, 0, 1)) as checkpoints:
        assert checkpoints.due(1)
        checkpoints.keep(JOB, 1, state(1))  # returns before the store has it
        assert not checkpoints.due(2)
        assert not uris(store)
        store.go.set()
    assert steps_found(store, tmp_path) == [1]


class Away(MemoryStore):
    """A store that is not there."""

    def put_bytes(self, uri: str, data: bytes) -> None:
        raise DependencyDown(f"{len(data)} bytes cannot be put at {uri}")


def test_a_checkpoint_that_cannot_be_stored_does_not_end_the_run(tmp_path: Path) -> None:
    with shelf(Away(), tmp_path) as checkpoints:
        checkpoints.keep(JOB, 1, state(1))
    assert not list(tmp_path.iterdir())
