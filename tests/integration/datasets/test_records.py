"""Resolving, locking, marking and selecting records."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import Session

from core.access.principal import Principal
from core.access.tables import Workspace
from core.datasets.errors import RecordNotFound
from core.datasets.repository import Datasets, RecordRef, Records, Resolution, SelectionCounts
from core.datasets.tables import Dataset, Record
from core.platform.database import transaction
from core.platform.ids import new_id

pytestmark = pytest.mark.integration


def dataset_of(tx: Session, workspace_id: str, *, rows: Sequence[tuple[str, str, str]], name: str = "d") -> str:
    """A data set with (record id, split, state) records in two files, the rows backwards; its id."""
    dataset_id = new_id("ds")
    dataset = Dataset(
        id=dataset_id, workspace_id=workspace_id, name=name, task="causal-lm", format="jsonl",
        columns={"record_id": "id", "text": "t"}, source_uri="mem://x/", status="ready", counts={}, fingerprint="f",
    )  # fmt: skip
    Datasets(tx).add(dataset)
    values = [
        {"dataset_id": dataset_id, "record_id": record_id, "subject_id": None, "split": split, "state": state,
         "file": i % 2, "row": len(rows) - i}
        for i, (record_id, split, state) in enumerate(rows)
    ]  # fmt: skip
    tx.execute(insert(Record), values)
    return dataset_id


@pytest.fixture
def dataset_id(tx: Session, caller: Principal) -> str:
    states = {3: "pending_erasure", 4: "erased"}
    rows = [(f"r{i}", "train" if i < 7 else "test", states.get(i, "active")) for i in range(10)]
    dataset_of(tx, caller.workspace_id, rows=[("r0", "train", "active"), ("other", "train", "active")], name="other")
    return dataset_of(tx, caller.workspace_id, rows=rows)


def test_ids_resolve_in_the_order_asked_and_each_once(tx: Session, dataset_id: str) -> None:
    found = Records(tx).resolve(dataset_id, ["r8", "nobody", "r4", "r8", "other", "a\0b"])
    assert found == Resolution((RecordRef("r8", "test", "active"), RecordRef("r4", "train", "erased")), (1, 4, 5))
    assert Records(tx).resolve(dataset_id, []) == Resolution((), ())


def test_one_record_is_found_or_not(tx: Session, dataset_id: str) -> None:
    assert Records(tx).get(dataset_id, "r4").state == "erased"
    for unknown in ("nobody", "other", "a\0b"):
        with pytest.raises(RecordNotFound):
            Records(tx).get(dataset_id, unknown)


def test_records_move_only_along_allowed_ways(tx: Session, dataset_id: str) -> None:
    records = Records(tx)
    everyone = [f"r{i}" for i in range(10)]
    assert records.mark(dataset_id, ["r0", "r3", "r4"], "pending_erasure") == 1
    assert records.mark(dataset_id, everyone, "erased") == 2  # r0 and r3 were pending
    assert records.mark(dataset_id, everyone, "active") == 0
    assert records.mark(dataset_id, ["r1"], "pending_erasure") == 1
    assert records.mark(dataset_id, ["r1"], "active") == 1
    with pytest.raises(ValueError, match="forgotten"):
        records.mark(dataset_id, ["r1"], "forgotten")


def test_a_lock_keeps_others_out(database: Engine) -> None:
    with transaction(database) as tx:
        tx.add(Workspace(id="ws_1", name="acme"))
        tx.flush()
        dataset_id = dataset_of(tx, "ws_1", rows=[("a", "train", "active"), ("b", "train", "active")])
    with transaction(database) as tx:
        Records(tx).lock(dataset_id, ["b", "a", "nobody"])
        with database.connect() as other:
            free = other.execute(text("select record_id from records for update skip locked")).scalars().all()
            assert free == []


def test_a_selection_names_the_three_sets(tx: Session, dataset_id: str, tmp_path: Path) -> None:
    path = tmp_path / "selection.parquet"
    counts = Records(tx).write_selection(dataset_id, ["r1", "r3", "r8", "nobody"], path)
    assert counts == SelectionCounts(forget=2, retain=4, holdout=2)
    rows = pq.read_table(path).to_pylist()
    assert {(row["set"], row["record_id"]) for row in rows} == {
        ("forget", "r1"),
        ("forget", "r3"),
        ("holdout", "r7"),
        ("holdout", "r9"),
        *(("retain", record_id) for record_id in ("r0", "r2", "r5", "r6")),
    }
    places = [(row["set"], row["file"], row["row"]) for row in rows]
    assert places == sorted(places)
    assert {row["record_id"]: (row["file"], row["row"]) for row in rows}["r7"] == (1, 3)


def test_records_forgotten_earlier_are_looked_at_with_the_run_that_forgot_them(
    tx: Session, dataset_id: str, tmp_path: Path
) -> None:
    erased = tx.scalars(text("select record_id from records where state = 'erased' and split = 'train'")).all()
    assert erased
    earlier = {erased[0]: "run_1", "r0": "run_1", "nobody": "run_1"}  # r0 is active: it is retained, and only that
    counts = Records(tx).write_selection(dataset_id, ["r1"], tmp_path / "s.parquet", earlier=earlier)
    assert counts.earlier == 1
    rows = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert [(row["record_id"], row["run_id"]) for row in rows if row["set"] == "earlier"] == [(erased[0], "run_1")]
    assert {row["run_id"] for row in rows if row["set"] != "earlier"} == {None}
    assert "r0" in {row["record_id"] for row in rows if row["set"] == "retain"}


def test_erased_and_pending_records_are_never_retained(tx: Session, dataset_id: str, tmp_path: Path) -> None:
    counts = Records(tx).write_selection(dataset_id, [], tmp_path / "s.parquet")
    assert counts == SelectionCounts(forget=0, retain=5, holdout=3)
    ids = pq.read_table(tmp_path / "s.parquet")["record_id"].to_pylist()
    assert "r3" not in ids
    assert "r4" not in ids


def test_a_large_selection_is_written_in_portions(tx: Session, caller: Principal, tmp_path: Path) -> None:
    rows = [(f"r{i}", "train", "active") for i in range(70_000)]
    large = dataset_of(tx, caller.workspace_id, rows=rows, name="large")
    counts = Records(tx).write_selection(large, [f"r{i}" for i in range(1000)], tmp_path / "s.parquet")
    assert counts == SelectionCounts(forget=1000, retain=69_000, holdout=0)
    file = pq.ParquetFile(tmp_path / "s.parquet")
    assert file.num_row_groups == 3
    file.close()
    assert len(set(pq.read_table(tmp_path / "s.parquet")["record_id"].to_pylist())) == 70_000


def test_looking_up_ids_uses_the_index(tx: Session, caller: Principal) -> None:
    rows = [(f"r{i}", "train", "active") for i in range(20_000)]
    large = dataset_of(tx, caller.workspace_id, rows=rows, name="large")
    tx.execute(text("analyze records"))
    query = "explain select state from records where dataset_id = :d and record_id = any(cast(:ids as text[]))"
    plan = "\n".join(tx.execute(text(query), {"d": large, "ids": ["r1", "r2"]}).scalars())
    assert "pk_records" in plan
    assert "Seq Scan" not in plan
