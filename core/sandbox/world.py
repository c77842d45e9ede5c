"""What every sandbox has from its first use on: a data set and a model of rows alone, without files or weights."""

from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import Final

from sqlalchemy.orm import Session

from core.access import audit
from core.datasets.lifecycle import DatasetStatus
from core.datasets.repository import Datasets
from core.datasets.tables import Dataset
from core.deletions.stand_ins import DATASET
from core.platform.ids import new_id
from core.registry.publishing import publish
from core.registry.repository import Models
from core.registry.tables import Model
from core.unlearning.job import StoredFile

MODEL: Final = "sandbox-model"
FOLDER: Final = "sandbox/"
"""Where the weights of sandboxes would lie in the object store. Nothing does."""
_TASK: Final = "image-classification"


def furnish(tx: Session, *, workspace_id: str, uri: Callable[[str], str], at: datetime) -> None:
    """Give the sandbox its data set and its model, if it has none yet. ``uri``: as ``ObjectStore.uri``."""
    if Datasets(tx).find(workspace_id, DATASET) is not None:
        return
    dataset = Datasets(tx).add(
        Dataset(
            id=new_id("ds"),
            workspace_id=workspace_id,
            name=DATASET,
            task=_TASK,
            format="parquet",
            columns={"record_id": "id", "subject_id": "person", "image": "image", "label": "label"},
            source_uri=uri(FOLDER),
            status=DatasetStatus.READY,
            fingerprint=sha256(DATASET.encode()).hexdigest(),
            counts={"train": 0, "test": 0},
            created_at=at,
            ready_at=at,
        )
    )
    model = Models(tx).add(
        Model(
            id=new_id("mdl"),
            workspace_id=workspace_id,
            name=MODEL,
            task=_TASK,
            dataset_id=dataset.id,
            description="Ready-made: everybody is known to it, and nothing is computed.",
            created_at=at,
        )
    )
    publish(
        tx,
        model_id=model.id,
        base_version=None,
        run_id=None,
        uri=folder(model.id, uri),
        files=weights(model.id, uri),
        metrics=None,
        production_follows=False,
        at=at,
    )
    audit.note(
        tx, workspace_id=workspace_id, actor="system", action="sandbox.furnished", object_id=model.id, details={}, at=at
    )  # fmt: skip


def folder(name: str, uri: Callable[[str], str]) -> str:
    """Where the weights that ``name`` stands for would lie."""
    return uri(f"{FOLDER}{name}/")


def weights(name: str, uri: Callable[[str], str]) -> tuple[StoredFile, ...]:
    """Weights that are there by name only, other ones for another ``name``."""
    return (
        StoredFile("model.safetensors", f"{folder(name, uri)}model.safetensors", 0, sha256(name.encode()).hexdigest()),
    )
