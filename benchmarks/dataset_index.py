"""How long indexing a large data set takes, and how long looking ids up in it.

    python -m benchmarks.dataset_index [--rows N] [--format parquet|jsonl] [--database-url URL]

Without a URL it uses the embedded PostgreSQL in a temporary folder; with one, a scratch database of its own on that
server, dropped at the end. Prints one JSON object; the aim is 1,000,000 rows in under 60 s and 1,000 ids in under 50 ms
on two cores.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from core.access.tables import Workspace
from core.datasets.indexing import build_index
from core.datasets.repository import Datasets, Records
from core.datasets.tables import Dataset
from core.platform import embedded
from core.platform.database import open_engine, transaction
from core.platform.ids import new_id
from core.platform.objects import DirectoryStore
from core.platform.secrets import Keyring
from core.platform.settings import Settings
from core.uploads.sources import SourceFile

PORTION = 100_000
LOOKUPS = 50
IDS = 1000


@contextmanager
def scratch_database(url: str | None, folder: Path) -> Iterator[Engine]:
    """An engine on a migrated database that vanishes afterwards."""
    if url is None:
        settings = embedded.resolve(Settings(data_dir=folder / "data"))
        try:
            with migrated(settings) as engine:
                yield engine
        finally:
            embedded.release(settings.data_dir)
        return
    name = f"benchmark_{uuid.uuid4().hex[:12]}"
    on_server(url, f"create database {name}")
    try:
        named = make_url(url).set(database=name).render_as_string(hide_password=False)
        base = Settings()
        database = base.database.model_copy(update={"url": SecretStr(named)})
        with migrated(base.model_copy(update={"database": database})) as engine:
            yield engine
    finally:
        on_server(url, f"drop database {name} with (force)")


@contextmanager
def migrated(settings: Settings) -> Iterator[Engine]:
    """An engine on the settings' database, brought to the newest schema."""
    assert settings.database.url is not None
    embedded.migrate(settings)
    engine = open_engine(settings.database.url.get_secret_value())
    try:
        yield engine
    finally:
        engine.dispose()


def on_server(url: str, statement: str) -> None:
    """One statement outside any transaction."""
    engine = open_engine(url, pool_size=1)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()


def portions(rows: int) -> Iterator[pa.Table]:
    """Questions and answers, twenty records a subject, every tenth held out, with an e-mail address each."""
    for first in range(0, rows, PORTION):
        numbers = range(first, min(rows, first + PORTION))
        yield pa.table({
            "id": [f"record-{i:09d}" for i in numbers],
            "who": [f"person-{i // 20}" for i in numbers],
            "mail": [f"person-{i // 20}@example.org" for i in numbers],
            "question": [f"What is the number {i}?" for i in numbers],
            "answer": [f"It is {i}, as everybody knows who has counted that far." for i in numbers],
            "split": ["test" if i % 10 == 0 else "train" for i in numbers],
        })  # fmt: skip


def write(path: Path, data_format: str, rows: int) -> None:
    """The data set's one file."""
    if data_format == "parquet":
        with pq.ParquetWriter(path, next(portions(1)).schema) as writer:
            for table in portions(rows):
                writer.write_table(table)
        return
    with path.open("w") as file:
        for table in portions(rows):
            file.writelines(json.dumps(row) + "\n" for row in table.to_pylist())


def index(engine: Engine, store: DirectoryStore, uri: str, data_format: str, size: int) -> tuple[str, float]:
    """Register and index; the data set's id and the seconds from the first byte read to the commit."""
    columns = {
        "record_id": "id", "subject_id": "who", "prompt": "question", "response": "answer", "split": "split",
        "identities": {"email": "mail"},
    }  # fmt: skip
    dataset_id = new_id("ds")
    with transaction(engine) as tx:
        tx.add(Workspace(id="ws_benchmark", name="benchmark"))
        tx.flush()
        dataset = Dataset(
            id=dataset_id, workspace_id="ws_benchmark", name="large", task="causal-lm", format=data_format,
            columns=columns, source_uri=uri, status="indexing",
        )  # fmt: skip
        Datasets(tx).add(dataset)
    began = time.perf_counter()
    with transaction(engine) as tx:
        files = [SourceFile("records", uri, size)]
        build_index(tx, store, Keyring(b"k" * 32), Datasets(tx).get(dataset_id), files)
    return dataset_id, time.perf_counter() - began


def look_up(engine: Engine, dataset_id: str, rows: int) -> list[float]:
    """Milliseconds of resolving random ids, one figure a lookup; the first is thrown away."""
    drawn = random.Random(0)
    times: list[float] = []
    for _ in range(LOOKUPS + 1):
        ids = [f"record-{i:09d}" for i in drawn.sample(range(rows), min(IDS, rows))]
        with transaction(engine) as tx:
            began = time.perf_counter()
            found = Records(tx).resolve(dataset_id, ids)
            times.append((time.perf_counter() - began) * 1000)
        assert len(found.found) == len(ids)
    return times[1:]


def select(engine: Engine, dataset_id: str, path: Path) -> float:
    """Seconds to write the selection of a run that forgets a thousand records."""
    ids = [f"record-{i:09d}" for i in range(1, IDS + 1)]
    with transaction(engine) as tx:
        began = time.perf_counter()
        Records(tx).write_selection(dataset_id, ids, path)
        return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--format", choices=["parquet", "jsonl"], default="parquet")
    parser.add_argument("--database-url", help="a server on which databases may be created")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        source = folder / "objects" / "records"
        source.parent.mkdir()
        write(source, given.format, given.rows)
        store = DirectoryStore(source.parent, public_url="http://localhost", keyring=None)
        with scratch_database(given.database_url, folder) as engine:
            size = source.stat().st_size
            dataset_id, seconds = index(engine, store, store.uri("records"), given.format, size)
            times = look_up(engine, dataset_id, given.rows)
            selection_s = select(engine, dataset_id, folder / "selection.parquet")
            with engine.connect() as connection:
                version = connection.execute(text("show server_version")).scalar_one()
    figures = {
        "rows": given.rows,
        "format": given.format,
        "file_mb": round(size / 1e6, 1),
        "index_s": round(seconds, 1),
        "rows_per_s": round(given.rows / seconds),
        f"resolve_{IDS}_ids_ms": {
            "median": round(statistics.median(times), 1),
            "worst": round(max(times), 1),
        },
        "write_selection_s": round(selection_s, 1),
        "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "postgres": version,
    }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
