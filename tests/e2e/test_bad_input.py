"""Wrong input ends in one clear problem document and leaves nothing behind."""

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.builders.models import Built
from tests.builders.service import Customer, Service

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def _customers() -> list[Customer]:
    return []


@pytest.fixture
def owner(service: Service, digits: Built, _customers: list[Customer]) -> Customer:
    """One customer for all these tests."""
    if not _customers:
        _customers.append(service.customer("bad-input"))
        _customers[0].register("digits", digits)
    return _customers[0]


def _problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.json()
    assert {"type", "title", "status", "detail", "instance", "code"} <= set(problem)
    return problem


def _pointers(problem: dict[str, Any]) -> list[str]:
    return [error["pointer"] for error in problem["errors"]]


@pytest.mark.parametrize(
    ("body", "status", "pointers"),
    [
        ({"model": "no-such-model", "record_ids": ["digit-0000"]}, 404, None),
        (
            {"model": "digits", "record_ids": ["nobody", "digit-0000", "no-one"]},
            422,
            ["/record_ids/0", "/record_ids/2"],
        ),
        ({"model": "digits"}, 422, None),
        ({"model": "digits", "record_ids": [], "subject_ids": []}, 422, None),
        ({"model": "digits", "record_ids": "digit-0000"}, 422, ["/record_ids"]),
        ({"model": "digits", "record_ids": ["digit-0000"], "surprise": 1}, 422, ["/surprise"]),
    ],
)
def test_a_wrong_deletion_request_is_refused_whole(
    owner: Customer, body: dict[str, Any], status: int, pointers: list[str] | None
) -> None:
    problem = _problem(owner.http.post("/v1/deletion-requests", json=body), status)
    if pointers is not None:
        assert _pointers(problem) == pointers
    assert owner.get("/v1/deletion-requests")["data"] == []
    assert owner.get("/v1/datasets/digits/records/digit-0000")["state"] == "active"


def test_another_workspace_sees_and_touches_nothing(service: Service, owner: Customer) -> None:
    stranger = service.customer("stranger")
    for path in ("/v1/models/digits", "/v1/datasets/digits", "/v1/models/digits/versions/1"):
        _problem(stranger.http.get(path), 404)
    body = {"model": "digits", "record_ids": ["digit-0000"]}
    _problem(stranger.http.post("/v1/deletion-requests", json=body), 404)
    assert owner.get("/v1/datasets/digits/records/digit-0000")["state"] == "active"


def test_duplicate_ids_in_a_data_set_are_refused(owner: Customer, tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b", "a"], "text": ["x", "y", "z"]})
    pq.write_table(table, tmp_path / "train.parquet")
    body = {
        "name": "doubled",
        "task": "causal-lm",
        "format": "parquet",
        "columns": {"record_id": "id", "text": "text"},
        "upload_id": owner.upload(tmp_path),
    }
    problem = _problem(owner.http.post("/v1/datasets", json=body), 422)
    assert "id" in json.dumps(problem["errors"])
    _problem(owner.http.get("/v1/datasets/doubled"), 404)


def _weights(folder: Path, digits: Built) -> Path:
    for file in digits.model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_truncated_weights_are_refused(owner: Customer, digits: Built, tmp_path: Path) -> None:
    weights = _weights(tmp_path, digits) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    _refused_version(owner, tmp_path, "truncated_weights")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "last.ckpt"])
def test_pickled_weights_are_refused(owner: Customer, digits: Built, tmp_path: Path, name: str) -> None:
    (_weights(tmp_path, digits) / name).write_bytes(b"\x80\x04.")
    _refused_version(owner, tmp_path, "unsafe_weights")


def test_code_that_comes_with_weights_is_refused(owner: Customer, digits: Built, tmp_path: Path) -> None:
    config = json.loads((_weights(tmp_path, digits) / "config.json").read_text())
    config["auto_map"] = {"AutoModelForImageClassification": "modeling.Evil"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    _refused_version(owner, tmp_path, "unsafe_weights")


def _refused_version(owner: Customer, folder: Path, code: str) -> None:
    name = "refused"
    owner.http.post("/v1/models", json={"name": name, "task": "image-classification", "dataset": "digits"})
    answer = owner.http.post(f"/v1/models/{name}/versions", json={"upload_id": owner.upload(folder)})
    assert _problem(answer, 422)["code"] == code
    assert owner.get(f"/v1/models/{name}/versions")["data"] == []


def test_a_wrong_checksum_is_found_when_the_upload_ends(owner: Customer) -> None:
    announced = {"path": "train.parquet", "size": 4, "sha256": hashlib.sha256(b"good").hexdigest()}
    upload = owner.post("/v1/uploads", {"files": [announced]}, expect=201)
    place = upload["files"][0]
    httpx.request(place["method"], place["url"], headers=place["headers"], content=b"evil")
    problem = _problem(owner.http.post(f"/v1/uploads/{upload['id']}/complete"), 422)
    assert _pointers(problem) == ["/files/0"]
