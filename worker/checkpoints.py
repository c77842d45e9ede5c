"""Checkpoints of one run in the object store: sealed, whole or not there, and never more than two.

One folder each, ``<run>/<identity>/<attempt>-<step>/``, with the sealed state and, written last, a manifest with its
size and digest: a folder without a manifest is no checkpoint.
"""

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import structlog

from core.platform.objects import DigestMismatch, ObjectInfo, ObjectStore
from core.platform.objects.transfer import MANIFEST, child_uri, fetch_verified, upload_folder
from core.platform.sealing import open_file, seal_file
from core.unlearning.checkpoint import State
from core.unlearning.job import PUT_AWAY_FILE, Checkpointing, StoredFile

log = structlog.get_logger()

_KEPT = 2
_SEALED = "state.sealed"
_PLACE = re.compile(r"(?P<folder>.*/(?P<identity>[0-9a-f]{32})/(?P<attempt>\d{1,9})-(?P<step>\d{1,9})/)[^/]+")
T = TypeVar("T")


class Patience(Protocol):
    """Does something that needs the store, and again while the store is away."""

    def __call__(self, work: Callable[[], T], /) -> T: ...


class StoredCheckpoints:
    """A run's checkpoints (``core.unlearning.resuming.Checkpoints``). A context manager: it ends with its last upload.

    Sealing and uploading happen in a thread of their own, one checkpoint at a time; while one is on its way no other
    is due, so a slow store makes checkpoints rarer and not the steps slower.
    """

    def __init__(
        self,
        store: ObjectStore,
        plan: Checkpointing,
        *,
        attempt: int,
        folder: Path,
        patiently: Patience,
        keeps: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """folder: the work folder, where states lie unsealed for a moment. keeps: False only to read."""
        self._store = store
        self._plan = plan
        self._key = bytes.fromhex(plan.key)
        self._attempt = attempt
        self._folder = folder
        self._patiently = patiently
        self._keeps = keeps
        self._clock = clock
        self._kept_at = clock()
        self._kept_step: int | None = None
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._upload: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown()

    def found(self, identity: str) -> Iterator[State]:
        """Those of this job that can be read, newest first; the time to the first own one counts from here."""
        for uri in self._patiently(lambda: _complete(self._store.list(self._plan.uri), identity)):
            try:
                state = self._patiently(lambda uri=uri: self._read(uri, identity))
            except (DigestMismatch, FileNotFoundError, ValueError, TypeError, KeyError) as error:
                log.warning("checkpoint_skipped", uri=uri, why=type(error).__name__)
                continue
            log.info("checkpoint_read", uri=uri)
            self._kept_at = self._clock()
            yield state
        self._kept_at = self._clock()

    def due(self, step: int) -> bool:
        """Whether enough steps or seconds have passed, and the last checkpoint has arrived; or the worker shuts down.

        Never if only reading or before the first step, and once a step.
        """
        if not self._keeps or step in (0, self._kept_step):
            return False
        if (self._folder / PUT_AWAY_FILE).exists():
            return True
        if self._upload is not None and not self._upload.done():
            return False
        by_steps = self._plan.every_steps and step % self._plan.every_steps == 0
        by_time = self._plan.every_s and self._clock() - self._kept_at >= self._plan.every_s
        return bool(by_steps or by_time)

    def keep(self, identity: str, step: int, state: State) -> None:
        """Seal and store it in the background; a failure is logged, and the run goes on without it."""
        self._kept_at, self._kept_step = self._clock(), step
        self._upload = self._thread.submit(self._store_logged, identity, step, state)

    def _store_logged(self, identity: str, step: int, state: State) -> None:
        try:
            self._write(identity, step, state)
            self._thin_out()
            log.info("checkpoint_stored", step=step)
        except Exception as error:
            log.warning("checkpoint_failed", step=step, why=f"{type(error).__name__}: {error}")

    def _write(self, identity: str, step: int, state: State) -> None:
        with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
            plain, outgoing = Path(scratch, "state"), Path(scratch, "outgoing")
            outgoing.mkdir()
            state.save(plain)
            with plain.open("rb") as source, (outgoing / _SEALED).open("wb") as target:
                seal_file(source, target, key=self._key, context=identity.encode())
            plain.unlink()
            folder = f"{identity[:32]}/{self._attempt}-{step}/"
            upload_folder(self._store, outgoing, child_uri(self._plan.uri, folder))

    def _read(self, uri: str, identity: str) -> State:
        with self._store.open(child_uri(uri, MANIFEST)) as manifest:
            files: list[dict[str, Any]] = json.load(manifest)["files"]
        (file,) = (StoredFile(**file) for file in files)
        with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
            sealed, plain = fetch_verified(self._store, file, Path(scratch)), Path(scratch, "state")
            with sealed.open("rb") as source, plain.open("wb") as target:
                open_file(source, target, key=self._key, context=identity.encode())
            return State.load(plain)

    def _thin_out(self) -> None:
        """Remove all but the newest complete ones, manifests first, so that nothing half removed looks complete."""
        infos = list(self._store.list(self._plan.uri))
        kept = tuple(_complete(infos)[:_KEPT])
        unwanted = [info.uri for info in infos if not info.uri.startswith(kept)]
        self._store.delete(sorted(unwanted, key=lambda uri: not uri.endswith(f"/{MANIFEST}")))


def _complete(infos: Iterable[ObjectInfo], identity: str = "") -> list[str]:
    """Folders with a manifest, newest first: by attempt and step. With an identity only those of that job."""
    found: list[tuple[int, int, str]] = []
    for info in infos:
        match = _PLACE.fullmatch(info.uri)
        if match and info.uri.endswith(f"/{MANIFEST}") and identity.startswith(match["identity"] if identity else ""):
            found.append((int(match["attempt"]), int(match["step"]), match["folder"]))
    return [folder for _, _, folder in sorted(found, reverse=True)]
