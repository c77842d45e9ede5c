"""A run done again from base version, record ids and seed gives the same weights, bit for bit."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from typer.testing import CliRunner, Result

from cli.configuration import to_environment, variables
from cli.main import app
from core.access.principal import Principal
from core.access.tables import Workspace
from core.datasets import service as datasets
from core.datasets.columns import ColumnMap
from core.deletions import service as deletions
from core.deletions.commands import SubmitDeletion
from core.platform.clock import utc_now
from core.platform.database import transaction
from core.platform.ids import new_id
from core.platform.objects import ObjectStore, open_store
from core.platform.secrets import Keyring
from core.platform.settings import Settings
from core.platform.version import code
from core.policies import service as policies
from core.registry import service as registry
from core.runs import finishing, service
from core.runs.preparing import keep, prepare
from core.runs.replaying import NotReplayable, rebuild
from tests.builders.estate import AT
from tests.builders.models import Built
from tests.integration.certificates.conftest import Ended
from worker.child import carry_out
from worker.replaying import relative_distance

pytestmark = pytest.mark.integration

SECRET = "0123456789-0123456789-0123456789-x"
Unlearn = Callable[..., Result]


@dataclass
class Site:
    """A service of this process on a database and a folder of objects, with the digits model in it."""

    engine: Engine
    settings: Settings
    store: ObjectStore
    keyring: Keyring
    caller: Principal
    folder: Path

    def request(self, tx: Session, writer: str, *, hold_s: int = 0) -> str:
        command = SubmitDeletion(model="digits", subject_ids=(writer,), hold_seconds=hold_s)
        made = deletions.submit(
            tx, workspace_id=self.caller.workspace_id, actor="k", command=command, keyring=self.keyring, max_ids=100,
            at=utc_now(),
        )  # fmt: skip
        return made.request.id

    def publish(self, writer: str) -> str:
        """Unlearn a writer in two steps and publish what came of it, by a person's word; the run's id."""
        with transaction(self.engine) as tx:
            request_id = self.request(tx, writer)
            planned = service.plan_next(tx, at=utc_now())
            assert planned is not None
            lease = service.claim(tx, run_id=planned.run_id, owner="w", ttl_s=600, at=utc_now())
            assert lease is not None
        folder = self.folder / lease.row_id
        folder.mkdir()
        with transaction(self.engine) as tx:
            prepared = prepare(tx, lease=lease, folder=folder, uri=self.store.uri, device="cpu", threads=1)
        with transaction(self.engine) as tx:
            keep(tx, lease=lease, prepared=prepared, at=utc_now())
        outcome = carry_out(prepared.job, folder, self.store, lambda _: None, threading.Event())
        assert outcome.failure is None
        outcome = replace(outcome, worker={**outcome.worker, "code": code()})
        with transaction(self.engine) as tx:
            finishing.finish(
                tx, lease=lease, outcome=outcome, publish_uri=prepared.job.publish_uri, max_attempts=1, at=utc_now()
            )
        with transaction(self.engine) as tx:
            if service.Runs(tx).get(lease.row_id).status == "needs_review":
                place = {"workspace_id": self.caller.workspace_id, "request_id": request_id}
                finishing.decide(tx, **place, approve=True, comment="", actor="k", at=utc_now())
        return lease.row_id


@pytest.fixture
def site(database: Engine, database_url: str, digits: Built, tmp_path: Path) -> Site:
    settings = Settings.model_validate(
        {
            "secret": SECRET,
            "data_dir": tmp_path / "data",
            "database": {"url": database_url},
            "broker": {"url": "redis://127.0.0.1:1/0"},
            "store": {"url": (tmp_path / "objects").as_uri()},
            "sources": {"roots": [f"{digits.records.parent.as_uri()}/"]},
        }
    )
    store, keyring = open_store(settings), Keyring(SECRET.encode())
    with transaction(database) as tx:
        workspace = Workspace(id=new_id("ws"), name="acme")
        tx.add(workspace)
        tx.flush()
        caller = Principal(workspace.id, "acme", new_id("key"), frozenset({"*"}), "live")
        body = {"parameters": {"max_steps": 2}, "recheck_days": 30}
        policies.put(tx, workspace_id=workspace.id, name="default", body=body, actor="k", at=AT)
        columns = ColumnMap(record_id="record_id", subject_id="subject_id", image="image", label="label", split="split")
        command = datasets.CreateDataset(
            "digits",
            digits.task,
            "parquet",
            columns,
            source_uri=digits.records.as_uri(),
            image_shape=digits.image_shape,
        )
        datasets.create(tx, store, keyring, settings, caller=caller, command=command, in_background=False, at=AT)
        model = registry.create_model(
            tx, caller=caller, command=registry.CreateModel("digits", digits.task, "digits"), at=AT
        )
        registry.register_version(
            tx,
            store,
            settings,
            caller=caller,
            model=model,
            upload_id=None,
            source_uri=f"{digits.model.as_uri()}/",
            at=AT,
        )
    return Site(database, settings, store, keyring, caller, tmp_path)


@pytest.fixture
def unlearn(site: Site, monkeypatch: pytest.MonkeyPatch) -> Unlearn:
    for variable in variables():
        monkeypatch.delenv(variable.name, raising=False)
    for name, value in to_environment(site.settings).items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: CliRunner().invoke(app, list(arguments), terminal_width=200)


def test_a_replay_is_identical_though_more_has_been_deleted_since_and_says_when_it_is_not(
    site: Site, unlearn: Unlearn
) -> None:
    with transaction(site.engine) as tx:
        site.request(tx, "writer-07", hold_s=3600)  # not taken by the run, and not retained by it either
        before = site.request(tx, "writer-09")  # cancelled before the run: retained
        deletions.cancel(tx, workspace_id=site.caller.workspace_id, request_id=before, actor="k", at=utc_now())
    run_id = site.publish("writer-03")
    with transaction(site.engine) as tx:
        site.request(tx, "writer-11")  # in the run's retain set, and out of every later one

    def replayed(*more: str) -> dict[str, Any]:
        done = unlearn("runs", "replay", *more, "--json")
        assert done.exit_code == 0, done.output
        (row,) = json.loads(done.stdout)
        return row

    assert replayed("--sample", "5", "--seed", "1") == {
        "run_id": run_id, "result": "identical", "distance": None, "differs": [], "why": None,
    }  # fmt: skip
    with transaction(site.engine) as tx:
        tx.execute(text("update runs set parameters = parameters || '{\"learning_rate\": 0.01}'"))
    done = unlearn("runs", "replay", run_id, "--json")
    assert done.exit_code == 1
    (row,) = json.loads(done.stdout)
    assert (row["result"], row["differs"]) == ("different", [])
    assert row["distance"] > 0.05
    with transaction(site.engine) as tx:
        tx.execute(text('update runs set worker = worker || \'{"device": "cuda:0"}\''))
    loose = replayed(run_id, "--tolerance", "100")
    assert (loose["result"], loose["differs"]) == ("close", ["device"])
    with transaction(site.engine) as tx:
        noted = tx.execute(text("select details from audit_events where action = 'run.replayed' order by sequence"))
        assert [row.details["result"] for row in noted] == ["identical", "different", "close"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("update runs set policy = policy || '{\"recheck_days\": 0}'", "may no longer be read"),
        ("update runs set policy = policy - 'recheck_days'", "recheck_days is 0"),
        ("update runs set selection = null", "older than replays"),
        ('update runs set selection = selection || \'{"retain": "0"}\'', "the retain set differs"),
        ("update runs set published_version = null", "nothing to compare"),
        ("update model_versions set state = 'purged' where version = 1", "has been purged"),
        ("delete from run_records where record_id = 'r-0'", "the forget set differs"),
    ],
)
def test_what_cannot_or_may_not_be_done_again_is_refused(ended: Ended, tmp_path: Path, change: str, why: str) -> None:
    run_id = ended.run("r-0", "r-1")
    with transaction(ended.engine) as tx:
        tx.execute(text("update runs set policy = policy || '{\"recheck_days\": 30}'"))
        rebuilt = rebuild(tx, run_id=run_id, folder=tmp_path, at=AT + timedelta(days=29))
        assert (rebuilt.job.run_id, rebuilt.job.device, rebuilt.job.threads) == (run_id, "cpu", 1)
        with pytest.raises(NotReplayable, match="may no longer be read"):
            rebuild(tx, run_id=run_id, folder=tmp_path, at=AT + timedelta(days=30))
        tx.execute(text(change))
        tx.expire_all()
        with pytest.raises(NotReplayable, match=why):
            rebuild(tx, run_id=run_id, folder=tmp_path, at=AT)


def test_the_distance_is_a_share_of_what_the_run_moved(tmp_path: Path) -> None:
    for name, value in (("base", 0.0), ("published", 2.0), ("replayed", 2.5)):
        (tmp_path / name).mkdir()
        save_file({"w": torch.full((4,), value)}, tmp_path / name / "model.safetensors")
    folders = [tmp_path / name for name in ("replayed", "published", "base")]
    assert relative_distance(*folders) == 0.25
    assert relative_distance(folders[1], folders[1], folders[1]) == 0.0
    assert relative_distance(folders[0], folders[1], folders[1]) == float("inf")
