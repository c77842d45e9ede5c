"""Registering and publishing versions, and where aliases may point."""

import hashlib
import io
import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from core.access.principal import Principal
from core.access.tables import AuditEvent, Workspace
from core.datasets.errors import DatasetNotFound, DatasetNotReady
from core.datasets.repository import Datasets
from core.datasets.tables import Dataset
from core.platform.database import transaction
from core.platform.errors import DomainError, IllegalTransition, InvalidInput, NotFound
from core.platform.ids import new_id
from core.platform.objects import MemoryStore
from core.platform.outbox import OutboxRow
from core.platform.settings import Settings
from core.policies import service as policies
from core.registry import service
from core.registry.errors import (
    HoldsUnlearnedData,
    InvalidModelFolder,
    ModelExists,
    ModelNotFound,
    StaleBase,
    TaskMismatch,
    TruncatedWeights,
    UnsafeWeights,
    VersionNotFound,
    VersionPurged,
)
from core.registry.lifecycle import VersionState, advance
from core.registry.repository import Models, Versions
from core.registry.tables import Model, ModelVersion
from core.unlearning.job import StoredFile
from core.uploads.errors import SourceNotAllowed, SourceNotFound

pytestmark = pytest.mark.integration

NOW = datetime(2031, 3, 1, tzinfo=UTC)
SETTINGS = Settings.model_validate({"sources": {"roots": ["mem://sources/{workspace}/"]}})
WEIGHTS = save({"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float16)}, metadata={"format": "pt"})
OTHER = save({"c": np.ones(3, np.float32)})
TASK = "image-classification"


def dumped(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


CONFIG = dumped(architectures=["ResNetForImageClassification"], model_type="resnet")
CAUSAL = dumped(architectures=["LlamaForCausalLM"], model_type="llama")
ADAPTER = dumped(
    peft_type="LORA", task_type="CAUSAL_LM", base_model_name_or_path="/home/somebody/base", auto_mapping=None
)
INDEX = dumped(metadata={}, weight_map={"a": "p1.safetensors", "b": "p1.safetensors", "c": "p2.safetensors"})

PLAIN = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "preprocessor_config.json": b"{}", "README.md": b"# x"}
SHARDED = {
    "config.json": CONFIG,
    "model.safetensors.index.json": INDEX,
    "p1.safetensors": WEIGHTS,
    "p2.safetensors": OTHER,
}
LORA = {
    "adapter_config.json": ADAPTER,
    "adapter_model.safetensors": OTHER,
    "base/config.json": CAUSAL,
    "base/model.safetensors": WEIGHTS,
    "base/tokenizer.json": b"{}",
}


def add_dataset(
    tx: Session, workspace_id: str, *, task: str = TASK, name: str = "digits", status: str = "ready"
) -> Dataset:
    dataset = Dataset(
        id=new_id("ds"), workspace_id=workspace_id, name=name, task=task, format="parquet", columns={"record_id": "id"},
        source_uri="mem://x/", status=status, counts={}, fingerprint="f",
    )  # fmt: skip
    return Datasets(tx).add(dataset)


def add_model(tx: Session, caller: Principal, *, task: str = TASK, name: str = "m", policy: str | None = None) -> Model:
    dataset = add_dataset(tx, caller.workspace_id, task=task, name=f"data-{name}")
    command = service.CreateModel(name, task, dataset.name, policy)
    return service.create_model(tx, caller=caller, command=command, at=NOW)


def register(
    tx: Session, store: MemoryStore, caller: Principal, model: Model, files: Mapping[str, bytes], *, folder: str = "w"
) -> ModelVersion:
    for path, content in files.items():
        store.place(f"mem://sources/acme/{folder}/{path}", content)
    return service.register_version(
        tx,
        store,
        SETTINGS,
        caller=caller,
        model=model,
        upload_id=None,
        source_uri=f"mem://sources/acme/{folder}/",
        at=NOW,
    )


def stored(name: str) -> StoredFile:
    return StoredFile("model.safetensors", f"mem://store/{name}", 1, hashlib.sha256(name.encode()).hexdigest())


def published(
    tx: Session, model: Model, *, base: int | None, by_run: bool = True, follows: bool = False
) -> ModelVersion:
    return service.publish(
        tx, model_id=model.id, base_version=base, run_id=new_id("run") if by_run else None, uri="mem://store/v/",
        files=[stored(new_id("evt"))], metrics={"after": {}}, production_follows=follows, at=NOW,
    )  # fmt: skip


# --- models -----------------------------------------------------------------------------------------------------


def test_a_model_belongs_to_its_workspace(tx: Session, caller: Principal, stranger: Principal) -> None:
    model = add_model(tx, caller)
    assert Models(tx).by_name(caller.workspace_id, "m").id == model.id
    assert [one.id for one in Models(tx).trained_on(model.dataset_id)] == [model.id]
    with pytest.raises(ModelNotFound):
        Models(tx).by_name(stranger.workspace_id, "m")
    command = service.CreateModel("theirs", TASK, "data-m")
    with pytest.raises(DatasetNotFound):
        service.create_model(tx, caller=stranger, command=command, at=NOW)
    with pytest.raises(ModelExists):
        service.create_model(tx, caller=caller, command=service.CreateModel("m", TASK, "data-m"), at=NOW)
    assert add_model(tx, stranger).id != model.id


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (service.CreateModel("Bad Name", TASK, "digits"), InvalidInput),
        (service.CreateModel("m", "causal-lm", "digits"), InvalidInput),
        (service.CreateModel("m", TASK, "unknown"), DatasetNotFound),
        (service.CreateModel("m", TASK, "slow"), DatasetNotReady),
        (service.CreateModel("m", TASK, "digits", policy="unknown"), NotFound),
    ],
)
def test_a_model_needs_a_fitting_dataset_and_policy(
    tx: Session, caller: Principal, command: service.CreateModel, error: type[DomainError]
) -> None:
    add_dataset(tx, caller.workspace_id)
    add_dataset(tx, caller.workspace_id, name="slow", status="indexing")
    with pytest.raises(error):
        service.create_model(tx, caller=caller, command=command, at=NOW)


# --- folders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("files", "task"), [(PLAIN, TASK), (SHARDED, TASK), (LORA, "causal-lm")])
def test_a_folder_becomes_version_one_where_it_lies(
    tx: Session, store: MemoryStore, caller: Principal, files: Mapping[str, bytes], task: str
) -> None:
    model = add_model(tx, caller, task=task)
    version = register(tx, store, caller, model, {**files, "manifest.json": b"{}"})
    assert (version.version, version.parent_version, version.state, version.run_id) == (1, None, "active", None)
    assert version.uri == "mem://sources/acme/w/"
    found = Versions(tx).files(version.id)
    assert {file.path: file.sha256 for file in found} == {
        path: hashlib.sha256(content).hexdigest() for path, content in files.items()
    }
    assert {file.path: file.size_bytes for file in found} == {path: len(content) for path, content in files.items()}
    assert Versions(tx).aliases(model.id) == {"latest": 1}
    assert tx.scalar(select(AuditEvent.action).where(AuditEvent.object_id == version.id)) == "model_version.registered"


def without(files: Mapping[str, bytes], *names: str) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if path not in names}


ZIP = b"PK\x03\x04\x14\0\0\0" + b"x" * 40
PICKLE = b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00" + b"x" * 40


@pytest.mark.parametrize(
    ("files", "error", "pointer"),
    [
        ({**PLAIN, "pytorch_model.bin": b""}, UnsafeWeights, "/files/pytorch_model.bin"),
        ({**PLAIN, "sub/last.CKPT": b""}, UnsafeWeights, "/files/sub~1last.CKPT"),
        ({**PLAIN, "optimizer.pt": b""}, UnsafeWeights, "/files/optimizer.pt"),
        ({**PLAIN, "x.pkl": b""}, UnsafeWeights, "/files/x.pkl"),
        ({**PLAIN, "x.npz": b""}, UnsafeWeights, "/files/x.npz"),
        ({**PLAIN, "modeling.py": b"import os"}, UnsafeWeights, "/files/modeling.py"),
        ({**PLAIN, "model.safetensors": PICKLE}, UnsafeWeights, "/files/model.safetensors"),
        ({**PLAIN, "notes": PICKLE}, UnsafeWeights, "/files/notes"),
        ({**PLAIN, "model.safetensors": ZIP}, UnsafeWeights, "/files/model.safetensors"),
        (
            {**PLAIN, "config.json": dumped(architectures=["X"], auto_map={"AutoModel": "m.X"})},
            UnsafeWeights,
            "/files/config.json",
        ),
        ({**LORA, "base/x.json": dumped(auto_map={"A": "b"})}, UnsafeWeights, "/files/base~1x.json"),
        (
            {**LORA, "adapter_config.json": dumped(peft_type="LORA", auto_mapping={"parent_library": "evil"})},
            UnsafeWeights,
            "/files/adapter_config.json",
        ),
        ({**PLAIN, "model.safetensors": WEIGHTS[:-1]}, TruncatedWeights, "/files/model.safetensors"),
        ({**PLAIN, "model.safetensors": WEIGHTS[:20]}, TruncatedWeights, "/files/model.safetensors"),
        ({**PLAIN, "model.safetensors": b""}, TruncatedWeights, "/files/model.safetensors"),
        ({**PLAIN, "model.safetensors": WEIGHTS + b"x"}, InvalidModelFolder, "/files/model.safetensors"),
        (without(PLAIN, "config.json"), InvalidModelFolder, "/files/config.json"),
        (without(PLAIN, "model.safetensors"), InvalidModelFolder, "/files/model.safetensors"),
        ({"config.json": CONFIG, "w.safetensors": WEIGHTS}, InvalidModelFolder, "/files/model.safetensors"),
        ({**PLAIN, "config.json": b"[]"}, InvalidModelFolder, "/files/config.json"),
        ({**PLAIN, "config.json": b"{"}, InvalidModelFolder, "/files/config.json"),
        ({**PLAIN, "config.json": CAUSAL}, TaskMismatch, "/files/config.json"),
        ({**PLAIN, "config.json": b"{}"}, TaskMismatch, "/files/config.json"),
        (
            {**PLAIN, "config.json": dumped(architectures=["AForImageClassification"], quantization_config={"b": 4})},
            InvalidModelFolder,
            "/files/config.json",
        ),
        (without(SHARDED, "p2.safetensors"), InvalidModelFolder, "/files/model.safetensors.index.json"),
        ({**SHARDED, "p2.safetensors": WEIGHTS}, InvalidModelFolder, "/files/model.safetensors.index.json"),
        ({**SHARDED, "model.safetensors.index.json": b"{}"}, InvalidModelFolder, "/files/model.safetensors.index.json"),
        (LORA, TaskMismatch, "/files/base~1config.json"),
        ({"adapter_config.json": ADAPTER, "adapter_model.safetensors": OTHER}, InvalidModelFolder, "/files/base~1"),
        ({**LORA, "adapter_config.json": dumped(peft_type="IA3")}, InvalidModelFolder, "/files/adapter_config.json"),
        (without(LORA, "adapter_model.safetensors"), InvalidModelFolder, "/files/adapter_model.safetensors"),
    ],
)  # fmt: skip
def test_what_is_no_safe_model_is_refused_and_leaves_nothing(
    tx: Session,
    store: MemoryStore,
    caller: Principal,
    files: Mapping[str, bytes],
    error: type[DomainError],
    pointer: str,
) -> None:
    model = add_model(tx, caller)
    with pytest.raises(error) as refusal, tx.begin_nested():
        register(tx, store, caller, model, files)
    assert pointer in [problem.pointer for problem in refusal.value.problems]
    assert Versions(tx).highest(model.id) == 0
    assert Versions(tx).aliases(model.id) == {}


def test_a_mismatch_names_architecture_and_task(tx: Session, store: MemoryStore, caller: Principal) -> None:
    with pytest.raises(TaskMismatch, match=r"LlamaForCausalLM.*image-classification"):
        register(tx, store, caller, add_model(tx, caller), {**PLAIN, "config.json": CAUSAL})


@pytest.mark.parametrize("architecture", ["GPT2LMHeadModel", "LlamaForCausalLM"])
def test_language_models_go_by_several_names(
    tx: Session, store: MemoryStore, caller: Principal, architecture: str
) -> None:
    model = add_model(tx, caller, task="causal-lm")
    version = register(tx, store, caller, model, {**PLAIN, "config.json": dumped(architectures=[architecture])})
    assert version.version == 1


def test_a_header_length_that_looks_like_a_pickle_is_no_pickle(
    tx: Session, store: MemoryStore, caller: Principal
) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode().ljust(0x280)
    content = io.BytesIO()
    content.write((0x280).to_bytes(8, "little") + header + b"\0")
    assert content.getvalue()[:2] == b"\x80\x02"
    register(tx, store, caller, add_model(tx, caller), {**PLAIN, "model.safetensors": content.getvalue()})


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("mem://sources/other/w/", SourceNotAllowed),
        ("mem://store/models/", SourceNotAllowed),
        ("mem://sources/acme/../other/", SourceNotAllowed),
        ("file:///etc/", SourceNotAllowed),
        ("mem://sources/acme/nothing/", SourceNotFound),
    ],
)
def test_sources_lie_where_the_workspace_may_read(
    tx: Session, store: MemoryStore, caller: Principal, uri: str, error: type[DomainError]
) -> None:
    with pytest.raises(error):
        service.register_version(
            tx, store, SETTINGS, caller=caller, model=add_model(tx, caller), upload_id=None, source_uri=uri, at=NOW
        )


# --- publishing -------------------------------------------------------------------------------------------------


def test_publishing_moves_latest_and_retires_the_base(tx: Session, caller: Principal) -> None:
    model = add_model(tx, caller)
    first = published(tx, model, base=None, by_run=False)
    second = published(tx, model, base=1)
    assert (second.version, second.parent_version, second.state, first.state) == (2, 1, "active", "retired")
    versions = Versions(tx)
    assert versions.aliases(model.id) == {"latest": 2}
    assert versions.resolve(model.id, "latest").id == second.id
    assert versions.resolve(model.id, "1").id == first.id
    for unknown in ("3", "production", "01x", "", "9" * 30, "-1"):
        with pytest.raises(VersionNotFound):
            versions.resolve(model.id, unknown)
    events = [
        (row.name, row.payload["data"]["version"]) for row in tx.scalars(select(OutboxRow).order_by(OutboxRow.id))
    ]
    assert events == [("model_version.published", 1), ("model_version.retired", 1), ("model_version.published", 2)]


def test_production_follows_where_the_policy_says_so(tx: Session, store: MemoryStore, caller: Principal) -> None:
    model = add_model(tx, caller)
    published(tx, model, base=None, follows=True)
    published(tx, model, base=1)
    assert Versions(tx).aliases(model.id) == {"latest": 2, "production": 1}
    policies.put(
        tx, workspace_id=caller.workspace_id, name="eager", body={"production_follows": True}, actor="key", at=NOW
    )
    eager = add_model(tx, caller, name="eager", policy="eager")
    register(tx, store, caller, eager, PLAIN)
    assert Versions(tx).aliases(eager.id) == {"latest": 1, "production": 1}


def test_a_stale_base_publishes_nothing(tx: Session, caller: Principal) -> None:
    model = add_model(tx, caller)
    published(tx, model, base=None)
    published(tx, model, base=1)
    for base in (None, 1, 3):
        with pytest.raises(StaleBase):
            published(tx, model, base=base)
    assert Versions(tx).highest(model.id) == 2


def test_of_two_that_publish_at_once_one_wins(database: Engine) -> None:
    with transaction(database) as tx:
        tx.add(Workspace(id="ws_1", name="acme"))
        tx.flush()
        caller = Principal("ws_1", "acme", "key_1", frozenset({"*"}), "live")
        model = add_model(tx, caller)
        published(tx, model, base=None, by_run=False)
    together = threading.Barrier(2)
    outcomes: list[str] = []

    def run() -> None:
        try:
            with transaction(database) as tx:
                mine = Models(tx).get(model.id)
                together.wait(timeout=30)
                outcomes.append(f"version {published(tx, mine, base=1).version}")
        except StaleBase:
            outcomes.append("stale")

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["stale", "version 2"]
    with transaction(database) as tx:
        assert Versions(tx).aliases(model.id) == {"latest": 2}
        assert tx.execute(text("select count(*) from model_versions")).scalar_one() == 2


def test_equal_folders_have_one_digest_wherever_they_lie(tx: Session) -> None:
    a, b = StoredFile("a", "s3://x/a", 1, "1" * 64), StoredFile("b", "s3://x/b", 1, "2" * 64)
    moved = StoredFile("a", "s3://y/a", 1, "1" * 64)
    assert service.folder_digest([a, b]) == service.folder_digest([b, moved])
    assert service.folder_digest([a, b]) != service.folder_digest([a])


# --- aliases ----------------------------------------------------------------------------------------------------


def point(tx: Session, caller: Principal, model: Model, alias: str, version: int, *, force: bool = False) -> None:
    service.point_alias(tx, caller=caller, model=model, alias=alias, version=version, force=force, at=NOW)


def test_rolling_back_before_an_unlearning_needs_force_and_is_audited(tx: Session, caller: Principal) -> None:
    model = add_model(tx, caller)
    published(tx, model, base=None, by_run=False)
    published(tx, model, base=1, by_run=False)
    point(tx, caller, model, "production", 2)
    point(tx, caller, model, "production", 1)  # nothing has been unlearned yet
    published(tx, model, base=2, by_run=True)
    point(tx, caller, model, "production", 3)
    for alias in ("production", "latest", "canary"):
        with pytest.raises(HoldsUnlearnedData):
            point(tx, caller, model, alias, 2)
    point(tx, caller, model, "production", 2, force=True)
    assert Versions(tx).aliases(model.id) == {"latest": 3, "production": 2}
    moves = tx.scalars(
        select(AuditEvent.details).where(AuditEvent.action == "model_alias.moved").order_by(AuditEvent.sequence)
    ).all()
    assert [(move["before"], move["after"], move["holds_unlearned_data"]) for move in moves] == [
        (None, 2, False),
        (2, 1, False),
        (1, 3, False),
        (3, 2, True),
    ]


def test_an_alias_points_at_a_version_that_exists_and_has_files(tx: Session, caller: Principal) -> None:
    model = add_model(tx, caller)
    version = published(tx, model, base=None)
    with pytest.raises(VersionNotFound):
        point(tx, caller, model, "production", 2)
    for alias in ("2", "Production", "", "-x", "a" * 64):
        with pytest.raises(InvalidInput):
            point(tx, caller, model, alias, 1)
    version.state = "purged"
    tx.flush()
    with pytest.raises(VersionPurged):
        point(tx, caller, model, "production", 1, force=True)


def test_states_move_along_the_table_only() -> None:
    allowed = {("active", "retired"), ("retired", "purged")}
    for before in VersionState:
        for after in VersionState:
            if (before, after) in allowed:
                assert advance(before, after) == after
            else:
                with pytest.raises(IllegalTransition):
                    advance(before, after)
