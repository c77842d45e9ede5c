"""Small parts of the worker: what the child may know, how its end is understood, where it works."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from core.platform.errors import DependencyDown
from core.platform.objects import StoreFull
from core.platform.objects.directory import DirectoryStore
from core.platform.settings import Settings
from core.platform.workfolder import remove_leftovers, work_folder
from core.unlearning.job import OUTCOME_FILE, Outcome, write_json
from tests.builders.waiting import wait_until
from worker.app import make_app
from worker.childprocess import Child
from worker.environment import child_environment
from worker.loops.__main__ import not_ended
from worker.loops.turning import is_outage
from worker.patience import DISK_FULL, in_words
from worker.polling import look
from worker.supervisor import End, Stop, outcome_of

SUPERVISOR = """
import os, sys, time
from pathlib import Path
from worker.childprocess import Child
child = Child((sys.executable, "-c", sys.argv[2]), Path(sys.argv[1]), os.environ)
time.sleep(60)
"""
CHILD = """
import subprocess, sys, threading
from pathlib import Path
from worker.reports import end_with_input
folder = Path(sys.argv[1])
(folder / "data").write_text("personal")
other = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL)
partial = folder.parent / "pid.partial"
partial.write_text(str(other.pid))
partial.rename(folder.parent / "pid")
end_with_input(folder)
threading.Event().wait()
"""


def settings(**sections: object) -> Settings:
    return Settings.model_validate(sections)


def test_the_child_knows_the_store_and_nothing_else() -> None:
    configured = settings(
        secret="s" * 40,
        database={"url": "postgresql://u:dbpass@h/d"},
        broker={"url": "redis://:brokerpass@h/0"},
        store={"url": "s3://b/p", "access_key_id": "id", "secret_access_key": "storepass"},
        sources={"roots": ["s3://training/{workspace}/"]},
    )
    inherited = {"PATH": "/bin", "UNLEARN_SECRET": "s" * 40, "UNLEARN_DATABASE__URL": "postgresql://u:dbpass@h/d"}
    environment = child_environment(configured, inherited)
    assert environment["PATH"] == "/bin"
    assert environment["HF_HUB_OFFLINE"] == "1"
    known = json.dumps(environment)
    for secret in ("dbpass", "brokerpass", "s" * 40):
        assert secret not in known


def test_the_child_reads_the_store_settings_back(monkeypatch: pytest.MonkeyPatch) -> None:
    configured = settings(
        store={
            "url": "s3://b/p",
            "access_key_id": "id",
            "secret_access_key": "storepass",
            "endpoint_url": "http://h:1",
        },
        sources={"roots": ["s3://training/{workspace}/"]},
    )
    for name, value in child_environment(configured, {}).items():
        monkeypatch.setenv(name, value)
    read = Settings()
    assert read.store == configured.store
    assert read.sources == configured.sources
    assert read.store.secret_access_key == SecretStr("storepass")


@pytest.mark.parametrize(
    ("end", "code", "retryable"),
    [
        (End(-9, None, forced=False), "killed", True),
        (End(-11, None, forced=False), "child_crashed", True),
        (End(1, None, forced=False), "child_crashed", True),
        (End(0, None, forced=False), "no_outcome", True),
        (End(-9, Stop.DEADLINE, forced=True), "deadline_exceeded", False),
    ],
)
def test_how_a_child_ended_is_said_in_words(tmp_path: Path, end: End, code: str, retryable: bool) -> None:
    failure = outcome_of(end, tmp_path / OUTCOME_FILE, deadline_s=60).failure
    assert failure is not None
    assert (failure.code, failure.retryable) == (code, retryable)
    assert failure.message.endswith(".")


def test_a_cancelled_child_is_cancelled_however_it_ended(tmp_path: Path) -> None:
    for end in (End(0, Stop.CANCEL, forced=False), End(-9, Stop.CANCEL, forced=True)):
        assert outcome_of(end, tmp_path / OUTCOME_FILE, deadline_s=60) == Outcome(stop_reason="cancelled")


def test_a_signal_from_outside_is_no_wish_to_cancel(tmp_path: Path) -> None:
    write_json(tmp_path / OUTCOME_FILE, Outcome(stop_reason="cancelled"))
    failure = outcome_of(End(0, None, forced=False), tmp_path / OUTCOME_FILE, deadline_s=60).failure
    assert failure is not None
    assert (failure.code, failure.retryable) == ("interrupted", True)


def fill_and_fail(root: Path) -> None:
    with work_folder(root) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "data").write_text("personal")
        raise RuntimeError


def test_the_work_folder_is_private_and_goes_away(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        fill_and_fail(tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def test_only_abandoned_folders_are_swept(tmp_path: Path) -> None:
    dead = tmp_path / "unlearn-run-dead"
    dead.mkdir()
    (dead / ".held").touch()
    (tmp_path / "unlearn-run-new").mkdir()
    (tmp_path / "somebody-else").mkdir()
    with work_folder(tmp_path) as held:
        assert remove_leftovers(tmp_path) == 1
        assert held.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["somebody-else", "unlearn-run-new"]


def test_celery_carries_doorbells_only() -> None:
    app = make_app(settings(broker={"url": "redis://h:1/0"}))
    assert app.conf.task_acks_late is False
    assert app.conf.task_ignore_result is True
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.worker_disable_prefetch is True
    assert app.conf.result_backend is None
    assert app.conf.accept_content == ["json"]
    app.close()


def test_nothing_of_the_childs_group_outlives_its_supervisor(tmp_path: Path) -> None:
    """The supervisor is killed; the child sees the end of its input, and ends with what it has started."""
    folder = tmp_path / "work"
    folder.mkdir()
    process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(folder), CHILD])
    wait_until((tmp_path / "pid").exists, what="the grandchild")
    grandchild = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: ended(grandchild), what="the end of the grandchild")
    wait_until(lambda: not folder.exists(), what="the removal of the folder")


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_reports_are_told_from_other_lines(tmp_path: Path) -> None:
    lines = [
        '{"phase": "unlearning", "step": 1}',
        "hello",
        '{"phase": "nowhere"}',
        '{"phase": "assessing", "step": "x"}',
    ]
    script = f"print({chr(10).join(lines)!r})"
    with Child((sys.executable, "-c", script), tmp_path, os.environ) as child:
        found = []
        while child.exit_code is None:
            found += child.reports(0.05)
        found += child.last_reports()
    assert [(report.phase, report.step) for report in found] == [("unlearning", 1)]


def test_a_disk_without_room_is_told_in_words_whoever_met_it(tmp_path: Path) -> None:
    def write() -> Outcome:
        (tmp_path / "weights").symlink_to("/dev/full")
        (tmp_path / "weights").write_bytes(b"x")
        return Outcome()

    def serialise() -> Outcome:
        raise ValueError("Error while serializing: I/O error: No space left on device (os error 28)")

    assert in_words(write) == in_words(serialise) == Outcome(failure=DISK_FULL)
    with pytest.raises(ValueError, match="another"):
        in_words(lambda: (_ for _ in ()).throw(ValueError("another")))


def test_an_object_directory_without_room_is_an_outage_with_a_name(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "objects", public_url="http://x", keyring=None)
    with store.sink(store.uri("a")) as sink, Path("/dev/full").open("wb", buffering=0) as full_disk:
        sink._file.close()
        sink._file = full_disk
        with pytest.raises(StoreFull, match="no room"):
            sink.write(b"x")

    def full() -> Outcome:
        raise StoreFull("The object store has no room left.")

    failure = in_words(full).failure
    assert failure is not None
    assert (failure.code, failure.retryable) == ("store_full", True)


def test_loops_are_waited_for_together_and_not_for_ever() -> None:
    free = threading.Event()
    threads = [threading.Thread(target=free.wait, name=name, daemon=True) for name in ("a", "b")]
    ended = threading.Thread(target=lambda: None, name="c")
    for thread in (*threads, ended):
        thread.start()
    assert not_ended([*threads, ended], limit_s=0.05) == ["a", "b"]
    free.set()
    assert not_ended([*threads, ended], limit_s=10) == []


def test_an_outage_is_told_from_a_bug_in_groups_too() -> None:
    away, bug = DependencyDown("The store does not answer."), ZeroDivisionError()
    assert is_outage(away)
    assert is_outage(ExceptionGroup("sweeping failed", [away, OSError()]))
    assert not is_outage(ExceptionGroup("sweeping failed", [away, bug]))


def test_a_doorbell_that_rings_while_the_database_is_away_is_no_failed_task() -> None:
    def away(_: str | None) -> bool:
        raise OperationalError("select 1", {}, Exception("gone"))

    assert look(away, "run_1") is False
