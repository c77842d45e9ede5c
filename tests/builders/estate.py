"""A workspace with a data set and models in rows only: no files, for tests of what the database decides."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from sqlalchemy.orm import Session

from core.access.tables import Workspace
from core.datasets.identities import identity_digests
from core.datasets.tables import Dataset, DatasetEdition, DatasetFile, Record, RecordIdentity
from core.deletions import service
from core.deletions.commands import RequestView, SubmitDeletion
from core.deletions.room import Room
from core.platform.ids import new_id
from core.platform.secrets import Keyring
from core.registry.publishing import publish
from core.registry.tables import Model
from core.unlearning.job import StoredFile

KEYRING = Keyring(b"a secret for tests only, of 32 bytes or more")
AT = datetime(2025, 3, 1, 11, 12, 40, 120000, tzinfo=UTC)
SHA = "0" * 64


@dataclass
class Estate:
    """What was built, and how to ask for deletions in it."""

    workspace_id: str
    datasets: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)

    def submit(
        self, tx: Session, *record_ids: str, at: datetime = AT, room: Room | None = None, **fields: Any
    ) -> RequestView:
        """Submit a request for records of the model ``digits`` unless ``fields`` say otherwise."""
        fields.setdefault("model", "digits")
        command = SubmitDeletion(record_ids=record_ids, **fields)
        return service.submit(
            tx, workspace_id=self.workspace_id, actor="key_t", command=command, keyring=KEYRING, max_ids=100, at=at,
            room=room,
        )  # fmt: skip

    def add_dataset(self, tx: Session, name: str, *, train: int = 6, test: int = 2, status: str = "ready") -> str:
        """Records ``r-0`` … of two subjects ``writer-0`` and ``writer-1`` by turns, and held-out ``t-0`` …"""
        dataset_id = self.datasets[name] = new_id("ds")
        tx.add(
            Dataset(
                id=dataset_id,
                workspace_id=self.workspace_id,
                name=name,
                task="image-classification",
                format="parquet",
                columns={"record_id": "id", "image": "png", "label": "label"},
                prompt_template="{prompt} ",
                source_uri="file:///nowhere/",
                status=status,
                fingerprint=SHA,
                counts={"train": train, "test": test},
            )
        )
        tx.flush()
        tx.add(DatasetEdition(dataset_id=dataset_id, edition=1, fingerprint=SHA))
        tx.add(
            DatasetFile(
                dataset_id=dataset_id,
                ordinal=0,
                path="train.parquet",
                uri="file:///nowhere/train.parquet",
                size_bytes=1,
                sha256=SHA,
                rows=train + test,
            )
        )
        names = [*(f"r-{i}" for i in range(train)), *(f"t-{i}" for i in range(test))]
        for row, record_id in enumerate(names):
            split = "train" if record_id.startswith("r-") else "test"
            tx.add(
                Record(
                    dataset_id=dataset_id,
                    record_id=record_id,
                    subject_id=f"writer-{row % 2}" if split == "train" else None,
                    split=split,
                    state="active",
                    file=0,
                    row=row,
                )
            )
        (digest,) = identity_digests(KEYRING, "email", "a@b.example")
        tx.add(RecordIdentity(dataset_id=dataset_id, type="email", digest=digest, record_id="r-0"))
        tx.flush()
        return dataset_id

    def add_model(self, tx: Session, name: str, dataset: str, *, versions: int = 1, policy: str | None = None) -> str:
        """A model with that many versions."""
        model_id = self.models[name] = new_id("mdl")
        tx.add(
            Model(
                id=model_id,
                workspace_id=self.workspace_id,
                name=name,
                task="image-classification",
                dataset_id=self.datasets[dataset],
                policy=policy,
            )
        )
        tx.flush()
        for number in range(versions):
            self.publish(tx, name, base=number or None)
        return model_id

    def publish(self, tx: Session, name: str, *, base: int | None) -> None:
        """Another version of a model, as if registered by hand."""
        publish(
            tx,
            model_id=self.models[name],
            base_version=base,
            run_id=None,
            uri=f"file:///nowhere/{name}/v{(base or 0) + 1}/",
            files=staged(f"file:///nowhere/{name}/v{(base or 0) + 1}/"),
            metrics=None,
            production_follows=False,
            at=AT,
        )


def staged(uri: str) -> tuple[StoredFile, ...]:
    """Files of a version under a folder URI: other weights for another folder."""
    return (StoredFile("model.safetensors", f"{uri}model.safetensors", 1, sha256(uri.encode()).hexdigest()),)


def estate(tx: Session, *, models: Sequence[str] = ("digits",)) -> Estate:
    """A workspace with the data set ``digits`` and these models trained on it, each with one version."""
    workspace_id = new_id("ws")
    tx.add(Workspace(id=workspace_id, name=workspace_id))
    tx.flush()
    built = Estate(workspace_id)
    built.add_dataset(tx, "digits")
    for name in models:
        built.add_model(tx, name, "digits")
    return built
