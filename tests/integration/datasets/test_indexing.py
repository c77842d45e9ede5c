"""Registering data sets of both formats: what is right is indexed whole, what is wrong leaves nothing."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from core.access.principal import Principal
from core.access.tables import AuditEvent, Workspace
from core.datasets import service
from core.datasets.columns import ColumnMap
from core.datasets.errors import DatasetExists, DatasetNotFound, DatasetNotReady
from core.datasets.identities import identity_digests
from core.datasets.indexing import index_next
from core.datasets.repository import Datasets, RecordRef, Records
from core.datasets.tables import Dataset, Record
from core.platform.clock import utc_now
from core.platform.database import transaction
from core.platform.errors import DependencyDown, InvalidInput
from core.platform.objects import MemoryStore
from core.platform.secrets import Keyring
from core.platform.settings import Settings, UploadSettings
from core.uploads import service as uploads
from core.uploads.errors import UploadNotFound, UploadUsed
from core.uploads.service import AnnouncedFile
from core.uploads.tables import Upload

pytestmark = pytest.mark.integration

SETTINGS = Settings.model_validate({"sources": {"roots": ["mem://sources/{workspace}/"]}})
TEXT = ColumnMap("id", subject_id="who", prompt="q", response="a", split="part", identities={"email": "mail"})
PNG = b"\x89PNG\r\n\x1a\n rest"
ROWS: list[dict[str, Any]] = [
    {"id": "r-1", "who": "ada", "q": "1?", "a": "one", "part": "train", "mail": "Ada@example.org"},
    {"id": "r-2", "who": "ada", "q": "2?", "a": "two", "part": "training", "mail": None},
    {"id": "r-3", "who": None, "q": "3?", "a": "three", "part": "holdout", "mail": "bob@example.org"},
]

Rows = Sequence[Mapping[str, Any]]


def parquet(rows: Rows, schema: pa.Schema | None = None) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), sink)
    return sink.getvalue()


def jsonl(rows: Rows) -> bytes:
    return "\n\n".join(json.dumps(row) for row in rows).encode()


WRITERS: Mapping[str, Callable[[Rows], bytes]] = {"parquet": parquet, "jsonl": jsonl}


@pytest.fixture(params=["parquet", "jsonl"])
def data_format(request: pytest.FixtureRequest) -> str:
    return request.param


class Registrar:
    """Registers data sets of files that lie at a source."""

    def __init__(self, tx: Session, store: MemoryStore, keyring: Keyring, caller: Principal) -> None:
        self.tx, self.store, self.keyring, self.caller = tx, store, keyring, caller

    def __call__(
        self,
        files: Mapping[str, bytes],
        data_format: str,
        columns: ColumnMap = TEXT,
        *,
        name: str = "people",
        task: str = "causal-lm",
        shape: tuple[int, int, int] | None = None,
        in_background: bool = False,
        settings: Settings = SETTINGS,
    ) -> Dataset:
        for path, content in files.items():
            self.store.place(f"mem://sources/{self.caller.workspace}/{name}/{path}", content)
        command = service.CreateDataset(
            name,
            task,
            data_format,
            columns,
            source_uri=f"mem://sources/{self.caller.workspace}/{name}/",
            image_shape=shape,
        )
        return service.create(
            self.tx,
            self.store,
            self.keyring,
            settings,
            caller=self.caller,
            command=command,
            in_background=in_background,
            at=utc_now(),
        )

    def refused(self, files: Mapping[str, bytes], data_format: str, columns: ColumnMap = TEXT, **options: Any) -> str:
        """Registers what must be refused with one problem, checks that nothing is left; ``code detail``."""
        with pytest.raises(InvalidInput) as refusal, self.tx.begin_nested():
            self(files, data_format, columns, **options)
        for table in (Dataset, Record):
            assert self.tx.scalar(select(func.count()).select_from(table)) == 0
        assert self.tx.execute(text("select count(*) from record_identities")).scalar_one() == 0
        (problem,) = refusal.value.problems
        return f"{problem.pointer} {problem.code} {problem.detail}"


@pytest.fixture
def register(tx: Session, store: MemoryStore, keyring: Keyring, caller: Principal) -> Registrar:
    return Registrar(tx, store, keyring, caller)


# --- what is right ----------------------------------------------------------------------------------------------


def test_a_dataset_is_indexed(register: Registrar, tx: Session, keyring: Keyring, data_format: str) -> None:
    write = WRITERS[data_format]
    files = {
        f"b.{data_format}": write([{**ROWS[0], "id": 7, "who": 12, "part": "eval"}]),
        f"a.{data_format}": write(ROWS),
        "README.md": b"# people",
    }
    dataset = register(files, data_format)
    assert (dataset.status, dataset.counts, dataset.subjects) == ("ready", {"train": 2, "test": 2}, 2)
    assert dataset.ready_at is not None
    source = Datasets(tx).source(dataset.id)
    assert [file.path for file in source.files] == [f"a.{data_format}", f"b.{data_format}"]
    assert source.files[1].sha256 == hashlib.sha256(files[f"b.{data_format}"]).hexdigest()
    assert source.fingerprint == dataset.fingerprint
    places = tx.execute(
        select(Record.record_id, Record.split, Record.file, Record.row).order_by(Record.file, Record.row)
    )
    assert [tuple(place) for place in places] == [
        ("r-1", "train", 0, 0),
        ("r-2", "train", 0, 1),
        ("r-3", "test", 0, 2),
        ("7", "test", 1, 0),
    ]
    records = Records(tx)
    assert [ref.record_id for ref in records.of_subjects(dataset.id, ["ada", "nobody"])] == ["r-1", "r-2"]
    assert [ref.record_id for ref in records.of_subjects(dataset.id, ["12"])] == ["7"]
    ada = ("email", identity_digests(keyring, "email", " ADA@example.org")[0])
    assert [ref.record_id for ref in records.of_identities(dataset.id, [ada])] == ["7", "r-1"]
    assert records.of_identities(dataset.id, [("phone", ada[1])]) == ()


def test_without_a_split_column_everything_was_trained_on(register: Registrar, data_format: str) -> None:
    dataset = register({"x": WRITERS[data_format](ROWS)}, data_format, ColumnMap("id", response="a"))
    assert dataset.counts == {"train": 3}
    assert dataset.subjects == 0


def test_many_rows_keep_their_places(register: Registrar, tx: Session, data_format: str) -> None:
    rows = [{"id": f"r{i}", "t": "x"} for i in range(70_000)]
    dataset = register({"x": WRITERS[data_format](rows)}, data_format, ColumnMap("id", text="t"))
    assert dataset.counts == {"train": 70_000}
    wrong = "select count(*) from records where record_id <> 'r' || row"
    assert tx.execute(text(wrong)).scalar_one() == 0


@pytest.mark.parametrize(
    ("kind", "value", "shape"),
    [
        (pa.binary(), PNG, None),
        (pa.large_binary(), b"\xff\xd8\xff\xe0 rest", None),
        (pa.struct([("bytes", pa.binary()), ("path", pa.string())]), {"bytes": PNG, "path": None}, None),
        (pa.binary(), b"\0" * 12, (2, 2, 3)),
        (pa.binary(12), b"\0" * 12, (2, 2, 3)),
        (pa.list_(pa.uint8()), [0] * 12, (2, 2, 3)),
        (pa.list_(pa.float32(), 12), [0.5] * 12, (2, 2, 3)),
        (pa.list_(pa.list_(pa.list_(pa.uint8()))), [[[0] * 3] * 2] * 2, (2, 2, 3)),
    ],
)
def test_images_come_in_several_shapes(register: Registrar, kind: Any, value: Any, shape: Any) -> None:
    schema = pa.schema([("id", pa.int64()), ("img", kind), ("y", pa.int8())])
    content = parquet([{"id": i, "img": value, "y": i} for i in range(3)], schema)
    columns = ColumnMap("id", image="img", label="y")
    dataset = register({"x.parquet": content}, "parquet", columns, task="image-classification", shape=shape)
    assert dataset.counts == {"train": 3}


def test_images_in_json_lines_are_lists_of_pixels(register: Registrar) -> None:
    columns = ColumnMap("id", image="img", label="y")
    content = jsonl([{"id": 1, "img": [[[0], [1]], [[2], [3]]], "y": 0}])
    dataset = register({"x.jsonl": content}, "jsonl", columns, task="image-classification", shape=(2, 2, 1))
    assert dataset.counts == {"train": 1}


def test_dictionary_encoded_text_is_text(register: Registrar) -> None:
    table = pa.table({name: pa.array([row[name] for row in ROWS]).dictionary_encode() for name in ("id", "a", "part")})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    dataset = register({"x": sink.getvalue()}, "parquet", ColumnMap("id", text="a", split="part"))
    assert dataset.counts == {"train": 2, "test": 1}


def test_registering_is_audited(register: Registrar, tx: Session, data_format: str) -> None:
    dataset = register({"x": WRITERS[data_format](ROWS)}, data_format)
    (event,) = tx.scalars(select(AuditEvent).where(AuditEvent.object_id == dataset.id))
    assert event.action == "dataset.created"
    assert "ada" not in json.dumps(event.details)


# --- what is wrong ----------------------------------------------------------------------------------------------


def changed(row: int, **fields: Any) -> list[dict[str, Any]]:
    return [{**old, **fields} if i == row else dict(old) for i, old in enumerate(ROWS)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (changed(2, id="r-1"), ["/columns/record_id duplicate_record_id", "row 2, column 'id'"]),
        (changed(1, id=None), ["/columns/record_id null_record_id", "row 1, column 'id'"]),
        (changed(1, id=""), ["null_record_id", "row 1, column 'id'"]),
        (changed(1, id="x" * 513), ["id_too_long", "row 1, column 'id'"]),
        (changed(1, id="a\0b"), ["bad_id", "row 1, column 'id'"]),
        (changed(0, part="dev"), ["/columns/split unknown_split", "row 0, column 'part'"]),
        (changed(2, part=None), ["/columns/split unknown_split", "row 2, column 'part'"]),
        (changed(2, a=None), ["/columns/response null_value", "row 2, column 'a'"]),
    ],
)
def test_a_wrong_row_is_named(register: Registrar, data_format: str, rows: Rows, said: list[str]) -> None:
    problem = register.refused({f"f.{data_format}": WRITERS[data_format](rows)}, data_format)
    for words in (f"f.{data_format}, row", *said):
        assert words in problem
    assert "r-1" not in problem
    assert "ada" not in problem


def test_ids_are_unique_across_files_and_kinds_of_id(register: Registrar, data_format: str) -> None:
    write = WRITERS[data_format]
    first = [{"id": str(i), "t": "x"} for i in range(100)]
    second = [{"id": i, "t": "x"} for i in (200, 300, 42)]
    files = {f"b.{data_format}": write(first), f"c.{data_format}": write(second)}
    problem = register.refused(files, data_format, ColumnMap("id", text="t"))
    assert f"duplicate_record_id c.{data_format}, row 2, column 'id'" in problem


def test_a_late_duplicate_is_found_at_its_row(register: Registrar, data_format: str) -> None:
    rows = [{"id": f"r{i}", "t": "x"} for i in range(69_000)]
    rows[68_500] = {"id": "r5", "t": "x"}
    problem = register.refused({"f": WRITERS[data_format](rows)}, data_format, ColumnMap("id", text="t"))
    assert "f, row 68500, column 'id'" in problem


@pytest.mark.parametrize("missing", ["id", "a", "part"])
def test_a_missing_column_is_named(register: Registrar, data_format: str, missing: str) -> None:
    rows = [{key: value for key, value in row.items() if key != missing} for row in ROWS]
    problem = register.refused({"f": WRITERS[data_format](rows)}, data_format)
    assert "missing_column" in problem
    assert f"column {missing!r}" in problem


OTHERS = ColumnMap("id", response="a", paraphrase="p", perturbed="w")


def test_rows_may_have_other_answers_or_none(register: Registrar, data_format: str) -> None:
    rows = [{"id": "a", "a": "x", "p": "y", "w": ["z", "u"]}, {"id": "b", "a": "x", "p": None, "w": None}]
    dataset = register({"f": WRITERS[data_format](rows)}, data_format, OTHERS)
    assert dataset.columns["perturbed"] == "w"


@pytest.mark.parametrize("wrong", [{"p": 3}, {"w": "text"}, {"w": [1]}])
def test_other_answers_are_texts(register: Registrar, data_format: str, wrong: dict[str, Any]) -> None:
    rows = [{"id": "a", "a": "x", "p": "y", "w": ["z"], **wrong}]
    problem = register.refused({"f": WRITERS[data_format](rows)}, data_format, OTHERS)
    assert f"column {next(iter(wrong))!r}" in problem
    assert "bad_value_type" in problem or "bad_column_type" in problem


def test_a_column_of_other_answers_must_be_there(register: Registrar, data_format: str) -> None:
    problem = register.refused({"f": WRITERS[data_format]([{"id": "a", "a": "x", "p": "y"}])}, data_format, OTHERS)
    assert "missing_column" in problem
    assert "column 'w'" in problem


@pytest.mark.parametrize(
    ("label", "code"),
    [("seven", "bad_label"), (1.5, "bad_label"), (None, "null_value"), (-1, "bad_label"), (True, "bad_label")],
)
def test_labels_are_integers(register: Registrar, data_format: str, label: Any, code: str) -> None:
    image: Any = [0] if data_format == "jsonl" else b"\0"
    rows = [{"id": i, "img": image, "y": y} for i, y in enumerate([label] if code != "null_value" else [0, None])]
    columns = ColumnMap("id", image="img", label="y")
    problem = register.refused(
        {"f": WRITERS[data_format](rows)}, data_format, columns, task="image-classification", shape=(1, 1, 1)
    )
    assert "column 'y'" in problem
    assert code in problem or "bad_column_type" in problem


@pytest.mark.parametrize(
    ("image", "shape"),
    [(b"GIF89a", None), (b"\0" * 5, (2, 2, 1)), ([0] * 5, (2, 2, 1)), ([0] * 4, None), ("cGln", None), (None, None)],
)
def test_images_must_be_what_they_are_said_to_be(register: Registrar, image: Any, shape: Any) -> None:
    schema = None if image is not None else pa.schema([("id", pa.string()), ("img", pa.binary()), ("y", pa.int8())])
    content = parquet([{"id": "a", "img": image, "y": 1}], schema)
    columns = ColumnMap("id", image="img", label="y")
    problem = register.refused({"f": content}, "parquet", columns, task="image-classification", shape=shape)
    assert "/columns/image" in problem


@pytest.mark.parametrize("ids", [[1.5], [b"x"], [True]])
def test_record_ids_are_text_or_integers(register: Registrar, ids: list[Any]) -> None:
    problem = register.refused({"f": parquet([{"id": i, "t": "x"} for i in ids])}, "parquet", ColumnMap("id", text="t"))
    assert "/columns/record_id bad_column_type" in problem


@pytest.mark.parametrize("line", ["[1]", "{", '"x"', '{"id": 1.5, "t": "x"}', '{"id": true, "t": "x"}', "[" * 100_000])
def test_lines_that_are_no_records_are_named(register: Registrar, line: str) -> None:
    content = b'{"id": "a", "t": "x"}\n\n' + line.encode()
    assert "row 1" in register.refused({"f": content}, "jsonl", ColumnMap("id", text="t"))


def test_a_truncated_parquet_file_is_unreadable(register: Registrar) -> None:
    content = parquet([{"id": str(i), "t": "text " * 50} for i in range(1000)])
    for end in (0, 10, len(content) - 1, len(content) // 2):
        assert "unreadable_file" in register.refused({"f": content[:end]}, "parquet", ColumnMap("id", text="t"))


def test_a_damaged_parquet_file_is_unreadable(register: Registrar) -> None:
    content = bytearray(parquet([{"id": str(i), "t": f"text {i}"} for i in range(5000)]))
    content[40:2000] = bytes(1960)
    assert "unreadable_file" in register.refused({"f": bytes(content)}, "parquet", ColumnMap("id", text="t"))


def test_a_dataset_without_records_or_files_is_refused(register: Registrar, data_format: str) -> None:
    empty = b"" if data_format == "jsonl" else parquet([], pa.schema([("id", pa.string()), ("t", pa.string())]))
    assert "no_records" in register.refused({"f": empty}, data_format, ColumnMap("id", text="t"))
    assert "no_files" in register.refused({"f": b"x", "g": b"y"}, data_format, ColumnMap("id", text="t"))


def test_more_rows_than_allowed_are_refused(register: Registrar, data_format: str) -> None:
    few = SETTINGS.model_copy(update={"datasets": SETTINGS.datasets.model_copy(update={"max_rows": 2})})
    problem = register.refused({"f": WRITERS[data_format](ROWS)}, data_format, settings=few)
    assert "too_many_rows" in problem


def test_a_name_is_taken_once_in_a_workspace(register: Registrar, tx: Session, data_format: str) -> None:
    files = {"f": WRITERS[data_format](ROWS)}
    register(files, data_format)
    with pytest.raises(DatasetExists):
        register(files, data_format)


def test_another_workspace_sees_nothing(
    register: Registrar, tx: Session, stranger: Principal, store: MemoryStore, keyring: Keyring
) -> None:
    register({"f": jsonl(ROWS)}, "jsonl")
    with pytest.raises(DatasetNotFound):
        Datasets(tx).by_name(stranger.workspace_id, "people")
    Registrar(tx, store, keyring, stranger)({"f": jsonl(ROWS)}, "jsonl")


# --- uploads ----------------------------------------------------------------------------------------------------


def _upload(tx: Session, store: MemoryStore, caller: Principal, content: bytes) -> str:
    announced = [AnnouncedFile("train.jsonl", len(content), hashlib.sha256(content).hexdigest())]
    upload = uploads.open_upload(
        tx, store, workspace_id=caller.workspace_id, actor="k", files=announced, limits=UploadSettings(), at=utc_now()
    )
    store.put_bytes(upload.files[0]["uri"], content)
    uploads.complete(tx, store, workspace_id=caller.workspace_id, actor="k", upload_id=upload.id, at=utc_now())
    return upload.id


def _from_upload(upload_id: str, *, name: str = "uploaded") -> service.CreateDataset:
    return service.CreateDataset(name, "causal-lm", "jsonl", ColumnMap("id", text="a"), upload_id=upload_id)


def test_an_upload_becomes_a_dataset_once(
    tx: Session, store: MemoryStore, keyring: Keyring, caller: Principal, stranger: Principal
) -> None:
    upload_id = _upload(tx, store, caller, jsonl(ROWS))

    def create(who: Principal, name: str) -> Dataset:
        command = _from_upload(upload_id, name=name)
        return service.create(
            tx, store, keyring, SETTINGS, caller=who, command=command, in_background=False, at=utc_now()
        )

    with pytest.raises(UploadNotFound), tx.begin_nested():
        create(stranger, "stolen")
    assert create(caller, "uploaded").status == "ready"
    with pytest.raises(UploadUsed), tx.begin_nested():
        create(caller, "again")


# --- in the background ------------------------------------------------------------------------------------------


@pytest.fixture
def committed(database: Engine) -> Principal:
    with transaction(database) as tx:
        tx.add(Workspace(id="ws_1", name="acme"))
    return Principal("ws_1", "acme", "key_1", frozenset({"*"}), "live")


def _later(database: Engine, store: MemoryStore, keyring: Keyring, caller: Principal, content: bytes) -> str:
    with transaction(database) as tx:
        upload_id = _upload(tx, store, caller, content)
        dataset = service.create(
            tx,
            store,
            keyring,
            SETTINGS,
            caller=caller,
            command=_from_upload(upload_id),
            in_background=True,
            at=utc_now(),
        )
        assert dataset.status == "indexing"
        with pytest.raises(DatasetNotReady):
            Datasets(tx).source(dataset.id)
        return dataset.id


def test_a_loop_builds_the_index(database: Engine, store: MemoryStore, keyring: Keyring, committed: Principal) -> None:
    assert not index_next(database, store, keyring)
    dataset_id = _later(database, store, keyring, committed, jsonl(ROWS))
    assert index_next(database, store, keyring)
    assert not index_next(database, store, keyring)
    with transaction(database) as tx:
        dataset = Datasets(tx).get(dataset_id)
        assert (dataset.status, dataset.counts, dataset.index_lease_until) == ("ready", {"train": 3}, None)
        assert Records(tx).resolve(dataset_id, ["r-2"]).found == (RecordRef("r-2", "train", "active"),)


def test_wrong_files_end_in_failed_and_free_name_and_upload(
    database: Engine, store: MemoryStore, keyring: Keyring, committed: Principal
) -> None:
    dataset_id = _later(database, store, keyring, committed, jsonl(changed(2, id="r-1")))
    assert index_next(database, store, keyring)
    with transaction(database) as tx:
        dataset = Datasets(tx).get(dataset_id)
        assert dataset.status == "failed"
        assert dataset.error is not None
        assert dataset.error["errors"][0]["code"] == "duplicate_record_id"
        assert tx.scalar(select(func.count()).select_from(Record)) == 0
        assert tx.scalar(select(Upload.status)) == "complete"
    assert not index_next(database, store, keyring)
    second = _later(database, store, keyring, committed, jsonl(ROWS))
    assert index_next(database, store, keyring)
    with transaction(database) as tx:
        assert Datasets(tx).by_name("ws_1", "uploaded").id == second


def test_an_outage_leaves_the_dataset_waiting(
    database: Engine, store: MemoryStore, keyring: Keyring, committed: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_uri: str) -> io.BytesIO:
        raise DependencyDown("away")

    dataset_id = _later(database, store, keyring, committed, jsonl(ROWS))
    with monkeypatch.context() as patch:
        patch.setattr(store, "open", away)
        assert index_next(database, store, keyring)
    assert not index_next(database, store, keyring), "the lease keeps it from being tried at once"
    with transaction(database) as tx:
        assert Datasets(tx).get(dataset_id).status == "indexing"
        tx.execute(text("update datasets set index_lease_until = now() - interval '1 second'"))
    assert index_next(database, store, keyring)
    with transaction(database) as tx:
        assert Datasets(tx).get(dataset_id).status == "ready"


def test_two_loops_take_different_datasets(
    database: Engine, store: MemoryStore, keyring: Keyring, committed: Principal
) -> None:
    dataset_id = _later(database, store, keyring, committed, jsonl(ROWS))
    with transaction(database) as tx:
        assert Datasets(tx).claim_indexing(lease_s=60) == dataset_id
        assert not index_next(database, store, keyring)


def test_large_sources_belong_in_the_background(
    tx: Session, store: MemoryStore, caller: Principal, keyring: Keyring
) -> None:
    upload_id = _upload(tx, store, caller, jsonl(ROWS))
    small = SETTINGS.model_copy(update={"datasets": SETTINGS.datasets.model_copy(update={"index_inline_bytes": 10})})
    for settings, expected in ((SETTINGS, False), (small, True)):
        command = _from_upload(upload_id)
        assert service.belongs_in_background(tx, store, settings, caller=caller, command=command) is expected
    unknown = _from_upload("up_unknown")
    assert not service.belongs_in_background(tx, store, small, caller=caller, command=unknown)
