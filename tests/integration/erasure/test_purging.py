"""Versions that hold what was unlearned are purged on time, and legal holds stop everything."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from core.platform.database import transaction
from core.platform.errors import DependencyDown
from core.platform.objects import MemoryStore, S3Store
from core.platform.settings import LoopSettings, StoreSettings
from core.registry.errors import HoldsUnlearnedData, VersionPurged
from core.registry.publishing import publish
from core.registry.repository import Models, Versions
from core.registry.service import point_alias
from core.runs.drifting import drift_of
from tests.builders.erasing import AT, Site, later, site
from tests.builders.web import Web, web
from worker.loops import eraser, planner, sweeper

pytestmark = pytest.mark.integration


def sweep(built: Site, at: datetime) -> None:
    sweeper.turn(built.engine, built.store, LoopSettings(orphan_age_s=1), lambda: at)


def point(built: Site, alias: str, version: int, *, force: bool = False) -> None:
    with transaction(built.engine) as tx:
        model = Models(tx).get(built.models["m"])
        point_alias(
            tx, caller=built.caller, model=model, alias=alias, version=version, force=force, reason="a test", at=AT
        )


def states(built: Site) -> list[str]:
    with transaction(built.engine) as tx:
        return [one.state for one in Versions(tx).all(built.models["m"])]


def file_of(built: Site, version: int) -> str:
    return built.ask(
        "select f.uri from model_files f join model_versions v on v.id = f.version_id where v.version = :n", n=version
    )


def test_a_superseded_version_is_purged_after_its_retention_unless_an_alias_points_at_it(
    emptied: Engine, s3: StoreSettings
) -> None:
    built = site(emptied, S3Store(s3))
    point(built, "production", 1)
    built.unlearn("r-1")
    sweep(built, later(29))
    assert states(built) == ["retired", "active"]
    assert built.events("model_version.purge_blocked") == []
    for _ in range(2):
        sweep(built, later(31))
    (told,) = built.events("model_version.purge_blocked")
    assert told["blocked_by"] == ["alias:production"]
    assert built.store.size(file_of(built, 1)) is not None
    point(built, "production", 2)
    sweep(built, later(31))
    assert states(built) == ["purged", "active"]
    assert built.store.size(file_of(built, 1)) is None
    assert built.store.size(file_of(built, 2)) is not None
    assert [e["version"] for e in built.events("model_version.purged", "model_version.files_deleted")] == [1, 1]
    with pytest.raises(VersionPurged):
        point(built, "production", 1, force=True)


def test_what_nobody_has_unlearned_from_is_kept(emptied: Engine) -> None:
    built = site(emptied, MemoryStore())
    with transaction(emptied) as tx:
        uri = built.store.uri("uploads/retrained/")
        publish(
            tx, model_id=built.models["m"], base_version=1, run_id=None, uri=uri, files=built.weights(uri),
            metrics=None, production_follows=False, at=AT,
        )  # fmt: skip
    sweep(built, later(4000))
    assert states(built) == ["retired", "active"]


def test_a_forced_rollback_is_told_and_what_descends_from_it_is_tainted(emptied: Engine) -> None:
    built = site(emptied, MemoryStore())
    first = built.unlearn("r-1")
    with pytest.raises(HoldsUnlearnedData):
        point(built, "latest", 1)
    point(built, "latest", 1, force=True)
    (told,) = built.events("model_version.forced_back")
    assert (told["alias"], told["version_before"], told["holds_unlearned_in"]) == ("latest", 2, [2])
    assert built.ask("select status from deletion_requests where id = :id", id=first) == "completed"
    built.unlearn("r-2")
    with transaction(emptied) as tx:
        assert Versions(tx).lineage(built.models["m"]).holds(3) == [2]
        drift = drift_of(tx, built.models["m"])
    assert drift.advice == "retrain"
    assert "unlearned in version 2" in drift.reasons[-1]
    with pytest.raises(HoldsUnlearnedData):  # also forwards
        point(built, "production", 3)
    sweep(built, later(31))
    assert built.ask("select purge_blocked->>0 from model_versions where version = 3") == "alias:latest"
    assert built.ask("select old_copies_purged_at from deletion_requests where id = :id", id=first) is None


def test_a_version_is_purged_by_hand(emptied: Engine) -> None:
    built = site(emptied, MemoryStore())
    api = web(emptied).customer()
    built.unlearn("r-1")
    path = "/v1/models/m/versions"
    assert api.get(f"{path}/1").json()["holds_unlearned_in"] == [2]
    refused = api.post(f"{path}/2/purge")
    assert (refused.status_code, refused.json()["code"]) == (409, "version_in_use")
    hold = api.post("/v1/legal-holds", {"scope": "model", "name": "m", "reason": "a case"}).json()
    assert api.post(f"{path}/1/purge").json()["code"] == "legal_hold"
    api.post(f"/v1/legal-holds/{hold['id']}/release", {"reason": "closed"})
    assert api.post(f"{path}/9/purge").status_code == 404
    for _ in range(2):
        purged = api.post(f"{path}/1/purge")
        assert (purged.status_code, purged.json()["state"], purged.json()["purged_at"]) == (202, "purged", None)
    assert len(built.events("model_version.purged")) == 1
    sweep(built, later(0))
    assert built.store.size(file_of(built, 1)) is None
    shown = api.get(f"{path}/1").json()
    assert shown["purged_at"] is not None
    assert [file["url"] for file in shown["files"]] == [None]


def test_a_purge_that_was_broken_off_goes_on(emptied: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    built = site(emptied, MemoryStore())
    built.unlearn("r-1")

    def away(*_: object) -> None:
        raise DependencyDown("The store is away.")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryStore, "delete", away)
        with pytest.raises(ExceptionGroup):
            sweep(built, later(31))
    assert states(built) == ["purged", "active"]
    assert built.ask("select purged_at from model_versions where version = 1") is None
    sweep(built, later(31))
    assert built.ask("select purged_at from model_versions where version = 1") == later(31)


def place(api: Web, **fields: Any) -> str:
    answer = api.post("/v1/legal-holds", {"reason": "Case 17", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


@pytest.mark.parametrize("fields", [{"scope": "workspace"}, {"scope": "dataset", "name": "people"}])
def test_a_legal_hold_stops_planning_rewriting_and_purging(emptied: Engine, fields: dict[str, str]) -> None:
    built = site(emptied, MemoryStore())
    api = web(emptied).customer()
    originals = built.uris()
    built.unlearn("r-1")
    hold = place(api, **fields)
    waiting = built.submit("r-2").request.id
    held_out = built.submit("t-1").request.id
    assert built.plan() is None
    planner.turn(emptied, lambda: AT)
    for request_id in (waiting, held_out):
        shown = api.get(f"/v1/deletion-requests/{request_id}").json()
        assert (shown["status"], shown["status_detail"]) == ("pending", "legal_hold")
    assert not eraser.turn(emptied, built.store, None)
    sweep(built, later(400))
    assert states(built) == ["retired", "active"]
    assert built.uris() == originals
    report = api.get("/v1/reports/compliance").json()["erasure"]
    assert [one["id"] for one in report["legal_holds"]] == [hold]
    assert [(one["records"], one["why"]) for one in report["datasets"]] == [(1, "legal_hold")]
    assert [(one["kind"], one["state"], one["blocked_by"]) for one in report["copies"]] == [
        ("version", "blocked", ["legal_hold"])
    ]

    released = api.post(f"/v1/legal-holds/{hold}/release", {"reason": "closed"})
    assert (released.status_code, released.json()["release_reason"]) == (200, "closed")
    assert api.post(f"/v1/legal-holds/{hold}/release", {"reason": "again"}).json()["code"] == "legal_hold_released"
    assert api.get("/v1/legal-holds?in_force=true").json()["data"] == []
    built.carry_out()
    planner.turn(emptied, lambda: AT)
    for request_id in (waiting, held_out):
        assert api.get(f"/v1/deletion-requests/{request_id}").json()["status"] == "completed"
    assert eraser.turn(emptied, built.store, None, lambda: AT)
    sweep(built, later(400))
    assert states(built) == ["purged", "purged", "active"]
    assert {"legal_hold.placed", "legal_hold.released"} <= built.audited()
    assert len(built.events("legal_hold.placed", "legal_hold.released")) == 2
    assert built.store.size(originals[0]) is None
    lines = api.get(
        "/v1/reports/compliance?format=csv&about=copies&from=2020-01-01T00:00:00Z&to=2099-01-01T00:00:00Z"
    ).text.splitlines()
    assert sorted(line.split(",")[5] for line in lines[1:]) == ["purged"] * 4


def test_a_hold_on_one_model_leaves_the_others_alone(emptied: Engine) -> None:
    built = site(emptied, MemoryStore(), models=("m", "n"))
    api = web(emptied).customer()
    place(api, scope="model", name="n")
    built.unlearn("r-1", model="m")
    assert built.submit("r-1", model="n").waits_for == "legal_hold"
    assert built.plan() is None
    assert not eraser.turn(emptied, built.store, None)
    for wrong in ({"scope": "model", "name": "no"}, {"scope": "workspace", "name": "m"}, {"scope": "dataset"}):
        assert api.post("/v1/legal-holds", {"reason": "x", **wrong}).status_code in (404, 422)
