"""A workspace whose data set and weights lie in a store, and runs on it that are carried out but for the computing."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Engine, text

from core.access.principal import Principal
from core.access.tables import Workspace
from core.datasets import service as datasets
from core.datasets.columns import ColumnMap
from core.deletions import service as deletions
from core.deletions.commands import RequestView, SubmitDeletion
from core.platform.clock import utc_now
from core.platform.database import transaction
from core.platform.ids import new_id
from core.platform.leases import Lease
from core.platform.objects import ObjectStore
from core.platform.settings import Settings, UploadSettings
from core.registry.publishing import publish
from core.registry.tables import Model
from core.runs import finishing, planning, preparing, service
from core.runs.preparing import Prepared
from core.unlearning.job import Outcome, StoredFile
from core.uploads import service as uploads
from core.uploads.service import AnnouncedFile
from tests.builders.estate import KEYRING

AT = utc_now()
COLUMNS = ColumnMap("id", prompt="q", response="a", split="part")
FILES = {
    "one": [f"r-{i}" for i in range(8)],
    "two": [*(f"s-{i}" for i in range(4)), *(f"t-{i}" for i in range(3))],
}
"""Record ids by file; those that begin with t are held out."""


def rows(ids: Sequence[str]) -> list[dict[str, str]]:
    """The rows of these records."""
    return [{"id": i, "q": f"{i}?", "a": f"the {i}", "part": "test" if i[0] == "t" else "train"} for i in ids]


def content(data_format: str, ids: Sequence[str]) -> bytes:
    """A file of these records, in row groups of three."""
    if data_format == "jsonl":
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows(ids))
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows(ids)), sink, row_group_size=3)
    return sink.getvalue()


def ids_in(store: ObjectStore, data_format: str, uri: str) -> list[str]:
    """Ids of the records in a file in the store, in order."""
    with store.open(uri) as stream:
        data = stream.read()
    if data_format == "jsonl":
        return [json.loads(line)["id"] for line in data.splitlines()]
    return pq.read_table(io.BytesIO(data))["id"].to_pylist()


@dataclass
class Site:
    """What was built in the store and in the database."""

    engine: Engine
    store: ObjectStore
    caller: Principal
    data_format: str = "parquet"
    dataset_id: str = ""
    models: dict[str, str] = field(default_factory=dict)

    def add_dataset(self, *, source_uri: str | None = None, rewrite: str = "ours") -> None:
        """The data set ``people``: uploaded, or adopted where it lies."""
        ending = {"parquet": "parquet", "jsonl": "jsonl"}[self.data_format]
        upload_id = None if source_uri else self._uploaded(ending)
        command = datasets.CreateDataset(
            "people", "causal-lm", self.data_format, COLUMNS, upload_id, source_uri, rewrite=rewrite
        )
        settings = Settings.model_validate({"sources": {"roots": [source_uri] if source_uri else []}})
        with transaction(self.engine) as tx:
            made = datasets.create(
                tx, self.store, KEYRING, settings, caller=self.caller, command=command, in_background=False, at=AT
            )
            self.dataset_id = made.id

    def _uploaded(self, ending: str) -> str:
        files = {f"{name}.{ending}": content(self.data_format, ids) for name, ids in FILES.items()}
        announced = [AnnouncedFile(path, len(data), sha256(data).hexdigest()) for path, data in files.items()]
        about: dict[str, Any] = {"workspace_id": self.caller.workspace_id, "actor": "key_t", "at": AT}
        with transaction(self.engine) as tx:
            upload = uploads.open_upload(tx, self.store, files=announced, limits=UploadSettings(), **about)
            for row in upload.files:
                self.store.put_bytes(row["uri"], files[row["path"]])
            uploads.complete(tx, self.store, upload_id=upload.id, **about)
            return upload.id

    def add_model(self, name: str, policy: str | None = None) -> None:
        """A model of the data set with one version, whose files lie in the store."""
        uri = self.store.uri(f"uploads/{name}/")
        with transaction(self.engine) as tx:
            model_id = self.models[name] = new_id("mdl")
            tx.add(
                Model(
                    id=model_id,
                    workspace_id=self.caller.workspace_id,
                    name=name,
                    task="causal-lm",
                    dataset_id=self.dataset_id,
                    policy=policy,
                    created_at=AT,
                )
            )
            tx.flush()
            publish(
                tx,
                model_id=model_id,
                base_version=None,
                run_id=None,
                uri=uri,
                files=self.weights(uri),
                metrics=None,
                production_follows=False,
                at=AT,
            )

    def weights(self, uri: str) -> tuple[StoredFile, ...]:
        """A weights file below a folder of the store."""
        data = uri.encode()
        self.store.put_bytes(f"{uri}model.safetensors", data)
        return (StoredFile("model.safetensors", f"{uri}model.safetensors", len(data), sha256(data).hexdigest()),)

    def submit(self, *record_ids: str, **fields: Any) -> RequestView:
        """Ask that records be erased, of every model unless ``fields`` name one."""
        command = SubmitDeletion(record_ids=record_ids, **fields)
        with transaction(self.engine) as tx:
            return deletions.submit(
                tx,
                workspace_id=self.caller.workspace_id,
                actor="key_t",
                command=command,
                keyring=KEYRING,
                max_ids=100,
                at=utc_now(),
            )

    def plan(self) -> str | None:
        """Plan the next run; its id."""
        with transaction(self.engine) as tx:
            planned = planning.plan_next(tx, at=AT)
            return planned.run_id if planned else None

    def begin(self, run_id: str, folder: Path) -> tuple[Lease, Prepared]:
        """Claim a run and prepare it in ``folder``."""
        with transaction(self.engine) as tx:
            lease = service.claim(tx, run_id=run_id, owner="w", ttl_s=600, at=AT)
        assert lease is not None
        with transaction(self.engine) as tx:
            prepared = preparing.prepare(tx, lease=lease, folder=folder, uri=self.store.uri, device="cpu", threads=None)
            preparing.keep(tx, lease=lease, prepared=prepared, at=AT)
        return lease, prepared

    def end(self, lease: Lease, prepared: Prepared) -> None:
        """Publish what the run is supposed to have made."""
        uri = prepared.job.publish_uri
        outcome = Outcome(stop_reason="target_reached", verdict="passed", staged=self.weights(uri))
        with transaction(self.engine) as tx:
            finishing.finish(tx, lease=lease, outcome=outcome, publish_uri=uri, max_attempts=3, at=AT)

    def carry_out(self) -> list[str]:
        """Plan and carry out runs until there are none; their ids."""
        done: list[str] = []
        while (run_id := self.plan()) is not None:
            with TemporaryDirectory() as folder:
                self.end(*self.begin(run_id, Path(folder)))
            done.append(run_id)
        return done

    def unlearn(self, *record_ids: str, **fields: Any) -> str:
        """Submit and carry out; the request's id."""
        view = self.submit(*record_ids, **fields)
        self.carry_out()
        return view.request.id

    def ask(self, statement: str, **values: Any) -> Any:
        """The first column of the first row; None when there is none."""
        with transaction(self.engine) as tx:
            return tx.execute(text(statement), values).scalar()

    def uris(self) -> list[str]:
        """Where the present files lie."""
        with transaction(self.engine) as tx:
            return list(tx.scalars(text("select uri from dataset_files order by ordinal")))

    def content(self) -> list[list[str]]:
        """Ids of the records in each of the present files."""
        return [ids_in(self.store, self.data_format, uri) for uri in self.uris()]

    def events(self, *names: str) -> list[Mapping[str, Any]]:
        """What was told under these names, in order."""
        with transaction(self.engine) as tx:
            found = tx.execute(text("select name, payload from outbox where topic = 'event' order by id"))
            return [row.payload["data"] for row in found if row.name in names]

    def audited(self) -> set[str]:
        """Actions in the audit log."""
        with transaction(self.engine) as tx:
            return set(tx.scalars(text("select action from audit_events")))


def site(engine: Engine, store: ObjectStore, *, data_format: str = "parquet", models: Sequence[str] = ("m",)) -> Site:
    """A workspace with the data set ``people`` and these models."""
    built = Site(engine, store, _caller(engine), data_format)
    built.add_dataset()
    for name in models:
        built.add_model(name)
    return built


def empty_site(engine: Engine, store: ObjectStore) -> Site:
    """A workspace without anything."""
    return Site(engine, store, _caller(engine))


def _caller(engine: Engine) -> Principal:
    workspace_id = new_id("ws")
    with transaction(engine) as tx:
        tx.add(Workspace(id=workspace_id, name="acme"))
    return Principal(workspace_id, "acme", "key_t", frozenset({"*"}), "live")


def later(days: float) -> datetime:
    """A moment after everything that was built."""
    return AT + timedelta(days=days)
