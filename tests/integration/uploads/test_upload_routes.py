"""The whole way over HTTP on a directory store: upload, data set, model, version, alias, download."""

import asyncio
import hashlib
import io
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save
from sqlalchemy import Engine

from api.app import create_app
from core.access import service as access
from core.platform.clock import utc_now
from core.platform.database import transaction
from core.platform.settings import Settings

pytestmark = pytest.mark.integration

Talk = Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


RECORDS = parquet(
    [{"id": f"r/{i}", "who": f"w{i % 3}", "t": "x", "s": "test" if i % 5 == 0 else "train"} for i in range(20)]
)
DATASET = {
    "name": "notes",
    "task": "causal-lm",
    "format": "parquet",
    "columns": {"record_id": "id", "subject_id": "who", "text": "t", "split": "s"},
}
WEIGHTS = {
    "config.json": json.dumps({"architectures": ["LlamaForCausalLM"]}).encode(),
    "model.safetensors": save({"a": np.ones(3, np.float32)}),
}


class Service:
    """An application on a directory store, and keys for it."""

    def __init__(self, database: Engine, database_url: str, folder: Path) -> None:
        (folder / "imports" / "acme").mkdir(parents=True)
        self.imports = folder / "imports" / "acme"
        self.settings = Settings.model_validate(
            {
                "secret": "s" * 40,
                "database": {"url": database_url},
                "store": {"url": f"file://{folder}/objects"},
                "sources": {"roots": [f"file://{folder}/imports/{{workspace}}/"]},
                "api": {"public_url": "http://service.test", "body_limit_bytes": 10_000},
                "datasets": {"index_inline_bytes": 1_000_000},
            }
        )
        self.database = database

    def key(self, workspace: str) -> str:
        with transaction(self.database) as tx:
            made = access.create_workspace(tx, name=workspace, actor="test", at=utc_now())
            key = access.create_key(
                tx, workspace_id=made.id, name="all", scopes=["*"], mode="live", actor="test", at=utc_now()
            )
            return key.secret

    def run(self, talk: Talk, *, workspace: str = "acme", settings: Settings | None = None) -> None:
        async def within() -> None:
            app = create_app(settings or self.settings, engine=self.database)
            transport = httpx.ASGITransport(app=app)
            headers = {"Authorization": f"Bearer {self.key(workspace)}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://service.test", headers=headers) as http:
                await talk(http)

        asyncio.run(within())


@pytest.fixture
def service(database: Engine, database_url: str, tmp_path: Path) -> Service:
    return Service(database, database_url, tmp_path)


async def answered(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    return answer.json()


async def uploaded(http: httpx.AsyncClient, files: dict[str, bytes]) -> str:
    announced = [
        {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for path, content in files.items()
    ]
    reply = await http.post("/v1/uploads", json={"files": announced})
    upload = await answered(reply, 201)
    assert reply.headers["location"] == f"/v1/uploads/{upload['id']}"
    for place in upload["files"]:
        assert place["url"].startswith("http://service.test/v1/storage/")
        async with httpx.AsyncClient(transport=http._transport) as nobody:
            sent = await nobody.put(place["url"], headers=place["headers"], content=files[place["path"]])
        assert sent.status_code == 200, sent.text
    done = await answered(await http.post(f"/v1/uploads/{upload['id']}/complete"), 200)
    assert done["status"] == "complete"
    assert [file["url"] for file in done["files"]] == [None] * len(files)
    return upload["id"]


def test_from_upload_to_download(service: Service) -> None:
    async def talk(http: httpx.AsyncClient) -> None:
        upload_id = await uploaded(http, {"train.parquet": RECORDS})
        assert (await answered(await http.get(f"/v1/uploads/{upload_id}"), 200))["status"] == "complete"
        reply = await http.post(
            "/v1/datasets", json={**DATASET, "upload_id": upload_id}, headers={"Idempotency-Key": "k"}
        )
        dataset = await answered(reply, 201)
        assert (dataset["status"], dataset["counts"], dataset["records"]) == ("ready", {"train": 16, "test": 4}, 20)
        again = await http.post(
            "/v1/datasets", json={**DATASET, "upload_id": upload_id}, headers={"Idempotency-Key": "k"}
        )
        assert (again.status_code, again.json()) == (201, dataset)
        shown = await answered(await http.get("/v1/datasets/notes"), 200)
        assert (shown["erased"], shown["subjects"], shown["fingerprint"]) == (0, 3, dataset["fingerprint"])
        record = await answered(await http.get("/v1/datasets/notes/records/r/7"), 200)
        assert record == {"dataset": "notes", "record_id": "r/7", "split": "train", "state": "active"}
        await answered(await http.get("/v1/datasets/notes/records/r/99"), 404)
        assert [one["name"] for one in (await answered(await http.get("/v1/datasets"), 200))["data"]] == ["notes"]

        model = {"name": "writer", "task": "causal-lm", "dataset": "notes", "policy": "default", "description": "d"}
        assert (await answered(await http.post("/v1/models", json=model), 201))["latest_version"] is None
        await answered(await http.post("/v1/models", json=model), 409)
        weights = {"upload_id": await uploaded(http, WEIGHTS)}
        version = await answered(await http.post("/v1/models/writer/versions", json=weights), 201)
        assert (version["version"], version["aliases"], version["parent_version"]) == (1, ["latest"], None)
        alias = await answered(await http.put("/v1/models/writer/aliases/production", json={"version": 1}), 200)
        assert alias == {"model": "writer", "alias": "production", "version": 1}
        for reference in ("1", "latest", "production"):
            found = await answered(await http.get(f"/v1/models/writer/versions/{reference}"), 200)
            assert found["aliases"] == ["latest", "production"]
            for file in found["files"]:
                content = (await http.get(file["url"], headers={"Authorization": ""})).content
                assert content == WEIGHTS[file["path"]]
                assert (len(content), hashlib.sha256(content).hexdigest()) == (file["size"], file["sha256"])
        await answered(await http.get("/v1/models/writer/versions/2"), 404)
        listed = await answered(await http.get("/v1/models/writer/versions"), 200)
        assert [one["version"] for one in listed["data"]] == [1]
        (only,) = (await answered(await http.get("/v1/models"), 200))["data"]
        alone = await answered(await http.get("/v1/models/writer"), 200)
        assert alone.pop("drift")["advice"] == "keep"
        assert only == alone
        assert only["aliases"] == {"latest": 1, "production": 1}

    service.run(talk)


def test_another_workspace_finds_nothing(service: Service) -> None:
    paths: list[str] = []

    async def owner(http: httpx.AsyncClient) -> None:
        upload_id = await uploaded(http, {"train.parquet": RECORDS})
        paths.append(f"/v1/uploads/{upload_id}")
        await answered(await http.post("/v1/datasets", json={**DATASET, "upload_id": upload_id}), 201)
        model = {"name": "writer", "task": "causal-lm", "dataset": "notes"}
        await answered(await http.post("/v1/models", json=model), 201)
        weights = {"upload_id": await uploaded(http, WEIGHTS)}
        await answered(await http.post("/v1/models/writer/versions", json=weights), 201)

    async def stranger(http: httpx.AsyncClient) -> None:
        for path in (
            *paths,
            "/v1/datasets/notes",
            "/v1/datasets/notes/records/r/1",
            "/v1/models/writer",
            "/v1/models/writer/versions",
            "/v1/models/writer/versions/1",
        ):
            await answered(await http.get(path), 404)
        await answered(await http.put("/v1/models/writer/aliases/production", json={"version": 1}), 404)
        await answered(await http.post(f"{paths[0]}/complete"), 404)
        for path in ("/v1/datasets", "/v1/models"):
            assert (await answered(await http.get(path), 200))["data"] == []

    service.run(owner)
    service.run(stranger, workspace="other")


def test_a_large_dataset_is_accepted_for_later(service: Service) -> None:
    settings = service.settings
    small = settings.model_copy(update={"datasets": settings.datasets.model_copy(update={"index_inline_bytes": 10})})

    async def talk(http: httpx.AsyncClient) -> None:
        (service.imports / "train.parquet").write_bytes(RECORDS)
        body = {**DATASET, "source_uri": f"file://{service.imports}/train.parquet"}
        reply = await http.post("/v1/datasets", json=body)
        assert (await answered(reply, 202))["status"] == "indexing"
        assert reply.headers["location"] == "/v1/datasets/notes"
        assert int(reply.headers["retry-after"]) > 0
        await answered(await http.post("/v1/models", json={"name": "m", "task": "causal-lm", "dataset": "notes"}), 409)

    service.run(talk, settings=small)


def test_wrong_input_is_a_problem_and_leaves_nothing(service: Service) -> None:
    async def talk(http: httpx.AsyncClient) -> None:
        async def refused(path: str, body: dict[str, Any], code: str) -> None:
            problem = await answered(await http.post(path, json=body), 422)
            assert problem["code"] == code, problem
            assert problem["errors"]

        upload_id = await uploaded(http, {"x.parquet": parquet([{"id": "a", "t": "x"}, {"id": "a", "t": "y"}])})
        plain = {**DATASET, "columns": {"record_id": "id", "text": "t"}}
        await refused("/v1/datasets", {**plain, "upload_id": upload_id}, "invalid_dataset")
        await answered(await http.get("/v1/datasets/notes"), 404)
        assert (await answered(await http.get(f"/v1/uploads/{upload_id}"), 200))["status"] == "complete"
        await refused("/v1/datasets", {**DATASET, "upload_id": upload_id}, "invalid_dataset")
        await refused("/v1/datasets", plain, "invalid_input")
        await refused("/v1/datasets", {**plain, "source_uri": "file:///etc/"}, "source_not_allowed")
        await refused(
            "/v1/datasets", {**plain, "columns": {"record_id": "id"}, "upload_id": upload_id}, "invalid_columns"
        )
        await refused("/v1/datasets", {**plain, "surprise": 1}, "invalid_request")
        await refused("/v1/uploads", {"files": [{"path": "../x", "size": 1, "sha256": "0" * 64}]}, "upload_rejected")
        await refused("/v1/uploads", {"files": [{"path": "x", "size": -1, "sha256": "0" * 64}]}, "invalid_request")
        await refused("/v1/uploads", {"files": [{"path": "x", "size": 1, "sha256": "0"}]}, "invalid_request")
        await answered(await http.post("/v1/datasets", json={**plain, "upload_id": "up_unknown"}), 404)

    service.run(talk)


def test_storage_links_take_what_was_announced_and_nothing_else(service: Service) -> None:
    content = b"good" * 5000  # more than the limit of ordinary bodies
    announced = {"path": "x", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    async def talk(http: httpx.AsyncClient) -> None:
        upload = await answered(await http.post("/v1/uploads", json={"files": [announced]}), 201)
        url = upload["files"][0]["url"]
        for wrong in (b"evil" * 5000, content + b"x", content[:-1], b""):
            assert (await answered(await http.put(url, content=wrong), 422))["code"] == "digest_mismatch"
        await answered(await http.get(url), 404)
        await answered(await http.put(url[:-2], content=content), 404)
        assert (await answered(await http.post(f"/v1/uploads/{upload['id']}/complete"), 422))[
            "code"
        ] == "upload_rejected"
        for _ in range(2):
            assert (await http.put(url, content=content)).status_code == 200
        await answered(await http.post(f"/v1/uploads/{upload['id']}/complete"), 200)

    service.run(talk)
