"""Models, versions and aliases on the wire."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from api.schemas.common import Name, Time, WireIn, WireOut
from core.evaluation.drift import Drift
from core.registry.lineage import Lineage
from core.registry.service import CreateModel
from core.registry.tables import Model, ModelVersion
from core.unlearning.job import StoredFile

_MODEL_IN: JsonDict = {
    "name": "digits-classifier",
    "task": "image-classification",
    "dataset": "digits",
    "policy": "default",
    "description": "Reads postcodes.",
}
_MODEL: JsonDict = {
    **_MODEL_IN,
    "id": "mdl_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "latest_version": 2,
    "aliases": {"latest": 2, "production": 1},
    "created_at": "2031-03-01T11:12:40.120Z",
}
_DRIFT: JsonDict = {
    "runs": 1,
    "erased_records": 12,
    "erased_share": 0.008,
    "retain_accuracy_drop": 0.004,
    "holdout_accuracy_drop": 0.002,
    "advice": "keep",
    "reasons": [],
}
_VERSION: JsonDict = {
    "id": "mv_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "model": "digits-classifier",
    "version": 2,
    "parent_version": 1,
    "state": "active",
    "run_id": "run_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "certificate_id": None,
    "uri": "s3://unlearn/models/digits-classifier/v2/",
    "digest": "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "files": [
        {
            "path": "model.safetensors",
            "size": 44810,
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "url": "https://objects.example/unlearn/models/model.safetensors?X-Amz-Signature=5f1c",
        }
    ],
    "metrics": {"after": {"forget": {"loss": 2.1, "accuracy": 0.4}, "membership_auc": 0.51}},
    "aliases": ["latest"],
    "holds_unlearned_in": [],
    "purge_blocked": None,
    "purged_at": None,
    "created_at": "2031-03-01T11:14:02.512Z",
}
_SUMMARY: JsonDict = {key: value for key, value in _VERSION.items() if key != "files"}


class ModelIn(WireIn):
    """A model to register; its weights come with its first version."""

    model_config = ConfigDict(json_schema_extra={"examples": [_MODEL_IN]})

    name: Name
    task: Literal["image-classification", "causal-lm"]
    dataset: str = Field(description="name of the data set it was trained on")
    policy: str | None = Field(None, description="name of a policy; unset: `default`")
    description: str | None = Field(None, max_length=2000)

    def to_command(self) -> CreateModel:
        """What the service is told."""
        return CreateModel(self.name, self.task, self.dataset, self.policy, self.description)


class ModelOut(WireOut):
    """A named line of weights."""

    model_config = ConfigDict(json_schema_extra={"examples": [_MODEL]})

    id: str
    name: str
    task: str
    dataset: str
    policy: str | None
    description: str | None
    latest_version: int | None = Field(description="null until a version is registered")
    aliases: dict[str, int]
    created_at: Time

    @classmethod
    def of(cls, model: Model, *, dataset: str, aliases: Mapping[str, int]) -> Self:
        """A model; ``dataset`` is the name of its data set."""
        return cls(
            id=model.id,
            name=model.name,
            task=model.task,
            dataset=dataset,
            policy=model.policy,
            description=model.description,
            latest_version=aliases.get("latest"),
            aliases=dict(aliases),
            created_at=model.created_at,
        )


class DriftOut(WireOut):
    """What unlearning has cost a model since it was trained: since its last version that no run published."""

    runs: int = Field(description="published runs since then")
    erased_records: int
    erased_share: float = Field(description="of the training records")
    retain_accuracy_drop: float = Field(description="sum over the runs; a share of 1")
    holdout_accuracy_drop: float
    advice: Literal["keep", "retrain"]
    reasons: list[str] = Field(description="why to train anew; empty otherwise")

    @classmethod
    def of(cls, drift: Drift) -> Self:
        """From the service's answer."""
        return cls.model_validate(drift)


class ModelDetailOut(ModelOut):
    """A named line of weights, and how far unlearning has taken it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_MODEL, "drift": _DRIFT}]})

    drift: DriftOut


class VersionIn(WireIn):
    """Where the weights lie. Give either `upload_id` or `source_uri`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"upload_id": "up_01k9d3v6m2q8r4t6w8y0a2c4e6"},
                {"source_uri": "s3://training/acme/digits-classifier/"},
            ]
        }
    )

    upload_id: str | None = Field(None, description="a complete upload")
    source_uri: str | None = Field(None, max_length=2048, description="a folder; its files stay where they are")


class ModelFileOut(WireOut):
    """A file of a version and a link to download it; the link needs no key and expires."""

    path: str
    size: int
    sha256: str
    url: str | None = Field(description="null once the version has been purged, and of versions made in test mode")


class VersionSummaryOut(WireOut):
    """A version without its files."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SUMMARY]})

    id: str
    model: str
    version: int
    parent_version: int | None
    state: str = Field(description="`active`, `retired` (superseded) or `purged` (files deleted)")
    run_id: str | None
    certificate_id: str | None
    uri: str
    digest: str = Field(description="SHA-256 over the sorted (path, sha256) pairs of the files")
    metrics: dict[str, Any] | None
    aliases: list[str]
    holds_unlearned_in: list[int] = Field(
        description="versions in which something was unlearned that this one still holds; empty: it holds nothing such"
    )
    purge_blocked: list[str] | None = Field(
        description="why it is not purged although it is due: `alias:` and its name, `run`, `legal_hold`"
    )
    purged_at: Time | None = Field(description="when the last file of a purged version was gone")
    created_at: Time

    @classmethod
    def of(cls, model: Model, version: ModelVersion, aliases: Mapping[str, int], lineage: Lineage) -> Self:
        """A version of a model; ``aliases`` and ``lineage`` are all of the model's."""
        return cls(**_fields(model, version, aliases, lineage))


class VersionOut(VersionSummaryOut):
    """A version with its files."""

    model_config = ConfigDict(json_schema_extra={"examples": [_VERSION]})

    files: list[ModelFileOut]

    @classmethod
    def with_files(
        cls,
        model: Model,
        version: ModelVersion,
        aliases: Mapping[str, int],
        lineage: Lineage,
        files: Sequence[tuple[StoredFile, str | None]],
    ) -> Self:
        """A version with its files and their links."""
        shown = [ModelFileOut(path=f.path, size=f.size_bytes, sha256=f.sha256, url=url) for f, url in files]
        return cls(**_fields(model, version, aliases, lineage), files=shown)


class AliasIn(WireIn):
    """Which version an alias is to point at."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"version": 2}]})

    version: int = Field(ge=1, le=2**31 - 1)
    force: bool = Field(False, description="even though the version still holds data that was unlearned")
    reason: str | None = Field(None, min_length=1, max_length=2000, description="kept in the audit log")


class AliasOut(WireOut):
    """An alias and the version it points at."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "digits-classifier", "alias": "production", "version": 2}]}
    )

    model: str
    alias: str
    version: int


def _fields(model: Model, version: ModelVersion, aliases: Mapping[str, int], lineage: Lineage) -> dict[str, Any]:
    return {
        "id": version.id,
        "model": model.name,
        "version": version.version,
        "parent_version": version.parent_version,
        "state": version.state,
        "run_id": version.run_id,
        "certificate_id": version.certificate_id,
        "uri": version.uri,
        "digest": version.digest,
        "metrics": version.metrics,
        "aliases": [alias for alias, number in aliases.items() if number == version.version],
        "holds_unlearned_in": lineage.holds(version.version),
        "purge_blocked": version.purge_blocked,
        "purged_at": version.purged_at,
        "created_at": version.created_at,
    }
