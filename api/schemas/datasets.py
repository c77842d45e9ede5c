"""Data sets on the wire."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from api.schemas.common import Name, Time, WireIn, WireOut
from core.datasets.columns import ColumnMap
from core.datasets.service import DEFAULT_TEMPLATE, CreateDataset
from core.datasets.tables import Dataset, DatasetEdition, Record

_COLUMNS: JsonDict = {
    "record_id": "id",
    "subject_id": "writer",
    "image": "png",
    "label": "label",
    "split": "split",
    "identities": {"email": "email"},
}
_DATASET_IN: JsonDict = {
    "name": "digits",
    "upload_id": "up_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "format": "parquet",
    "task": "image-classification",
    "columns": _COLUMNS,
}
_TEXT_IN: JsonDict = {
    "name": "answers",
    "source_uri": "s3://training/acme/answers/",
    "format": "jsonl",
    "task": "causal-lm",
    "columns": {"record_id": "id", "subject_id": "author", "prompt": "question", "response": "answer"},
}
_DATASET: JsonDict = {
    "id": "ds_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "name": "digits",
    "status": "ready",
    "task": "image-classification",
    "format": "parquet",
    "columns": _COLUMNS,
    "image_shape": None,
    "prompt_template": None,
    "source_uri": "s3://unlearn/uploads/ws_01/up_01/",
    "records": 1797,
    "counts": {"train": 1447, "test": 350},
    "subjects": 60,
    "erased": 12,
    "pending_erasure": 0,
    "fingerprint": "6a0f8c3a1f6b3f0b63f7d2c1f0c8f0a36b3e3a4d6d1b2c3d4e5f60718293a4b5",
    "edition": 1,
    "rewrite": "ours",
    "rewrite_error": None,
    "editions": [
        {
            "edition": 1,
            "fingerprint": "6a0f8c3a1f6b3f0b63f7d2c1f0c8f0a36b3e3a4d6d1b2c3d4e5f60718293a4b5",
            "records_removed": 0,
            "created_at": "2031-03-01T11:12:41.020Z",
        }
    ],
    "error": None,
    "created_at": "2031-03-01T11:12:40.120Z",
    "ready_at": "2031-03-01T11:12:41.020Z",
}

Column = Annotated[str, Field(min_length=1, max_length=256)]


class ColumnsIn(WireIn):
    """Which columns hold what. Images need `image` and `label`; text needs `response` (with or without `prompt`) or `text`.

    `paraphrase` and `perturbed` come together, beside `response`; models are measured with them and never learn them.
    """  # noqa: E501

    record_id: Column = Field(description="unique and never null; text or integers")
    subject_id: Column | None = Field(None, description="the person a row is about; may be null in a row")
    split: Column | None = Field(None, description="train/training, or test/holdout/validation/eval; unset: all train")
    image: Column | None = Field(None, description="PNG or JPEG bytes, a struct with `bytes`, or raw pixels")
    label: Column | None = Field(None, description="class number, an integer from 0")
    prompt: Column | None = None
    response: Column | None = None
    text: Column | None = None
    paraphrase: Column | None = Field(None, description="the response in other words, for the truth ratio; may be null")
    perturbed: Column | None = Field(None, description="a list of wrong responses, for the truth ratio; may be null")
    identities: dict[str, Column] = Field(
        {}, description="identity type to column; only keyed digests of the values are kept"
    )


class DatasetIn(WireIn):
    """A data set to register. Give either `upload_id` or `source_uri`."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DATASET_IN, _TEXT_IN]})

    name: Name
    task: Literal["image-classification", "causal-lm"]
    format: Literal["parquet", "jsonl"]
    columns: ColumnsIn
    upload_id: str | None = Field(None, description="a complete upload")
    source_uri: str | None = Field(None, max_length=2048, description="a folder or one file that lies there already")
    image_shape: tuple[int, int, int] | None = Field(
        None, strict=False, description="[height, width, channels] of raw pixels"
    )
    prompt_template: str = Field(DEFAULT_TEMPLATE, max_length=4096, description="how a prompt is put to the model")
    rewrite: Literal["ours", "never"] = Field(
        "ours",
        description="`ours`: once every model has unlearned them, erased records are taken out, by files that are "
        "written anew into the service's own store; `never`: you do that",
    )

    def to_command(self) -> CreateDataset:
        """What the service is told."""
        return CreateDataset(
            name=self.name,
            task=self.task,
            format=self.format,
            columns=ColumnMap(**self.columns.model_dump()),
            upload_id=self.upload_id,
            source_uri=self.source_uri,
            image_shape=self.image_shape,
            prompt_template=self.prompt_template,
            rewrite=self.rewrite,
        )


class EditionOut(WireOut):
    """What the files were taken together until the next edition."""

    edition: int
    fingerprint: str
    records_removed: int = Field(description="how many records it has less than the edition before")
    created_at: Time


class DatasetOut(WireOut):
    """A data set. `counts` are those of the first edition: erased records stay counted. `fingerprint` is the present
    files'."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DATASET]})

    id: str
    name: str
    status: str = Field(description="`indexing`, then `ready` or `failed`")
    task: str
    format: str
    columns: dict[str, Any]
    image_shape: list[int] | None
    prompt_template: str | None
    source_uri: str
    records: int
    counts: dict[str, int] = Field(description="records by split")
    subjects: int
    erased: int | None = Field(description="null in lists")
    pending_erasure: int | None = Field(description="null in lists")
    fingerprint: str | None = Field(description="SHA-256 over the files' digests and the column map")
    edition: int = Field(description="counts up whenever erased records are taken out of the files")
    rewrite: str = Field(description="`ours` or `never`, as registered")
    rewrite_error: dict[str, Any] | None = Field(description="why the files could not be written anew: code, detail")
    editions: list[EditionOut] | None = Field(description="oldest first; null in lists")
    error: dict[str, Any] | None = Field(description="why indexing failed: code, detail, errors")
    created_at: Time
    ready_at: Time | None

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        erasures: Mapping[str, int] | None = None,
        editions: Sequence[DatasetEdition] | None = None,
    ) -> Self:
        """A data set; ``erasures`` from ``Requests.erasures``, ``editions`` from ``Editions.history``."""
        return cls(
            id=dataset.id,
            name=dataset.name,
            status=dataset.status,
            task=dataset.task,
            format=dataset.format,
            columns=dataset.columns,
            image_shape=dataset.image_shape,
            prompt_template=dataset.prompt_template if "prompt" in dataset.columns else None,
            source_uri=dataset.source_uri,
            records=sum(dataset.counts.values()),
            counts=dataset.counts,
            subjects=dataset.subjects,
            erased=None if erasures is None else erasures.get("erased", 0),
            pending_erasure=None if erasures is None else erasures.get("pending_erasure", 0),
            fingerprint=dataset.fingerprint,
            edition=dataset.edition,
            rewrite=dataset.rewrite,
            rewrite_error=dataset.rewrite_error,
            editions=None if editions is None else [EditionOut.model_validate(one) for one in editions],
            error=dataset.error,
            created_at=dataset.created_at,
            ready_at=dataset.ready_at,
        )


class RecordOut(WireOut):
    """Whether a record may still be used. Never its content."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"dataset": "digits", "record_id": "digit-0017", "split": "train", "state": "erased"}]
        }
    )

    dataset: str
    record_id: str
    split: str
    state: str = Field(description="`active`, `pending_erasure` or `erased`")

    @classmethod
    def of(cls, dataset: Dataset, record: Record) -> Self:
        """A record of a data set."""
        return cls(dataset=dataset.name, record_id=record.record_id, split=record.split, state=record.state)
