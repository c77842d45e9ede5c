"""A run that can be interrupted: put away after some of its steps, and taken up again by another process."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import torch

from core.unlearning.checkpoint import State
from core.unlearning.course import Course
from core.unlearning.job import Job
from core.unlearning.selection import Selection

_CODE = Path(__file__).resolve().parents[1]
_PACKAGES = ("evaluation", "hamu", "unlearning")
"""What decides the numbers of a run."""


class Checkpoints(Protocol):
    """Where checkpoints of one run are kept. An ``identity`` says whose they are: see ``identity``."""

    def found(self, identity: str) -> Iterator[State]:
        """Those that can be read, newest first."""
        ...

    def due(self, step: int) -> bool:
        """Whether the run should be put away after ``step`` steps."""
        ...

    def keep(self, identity: str, step: int, state: State) -> None:
        """Put it away, in the caller's time or behind its back; a failure is nobody's but the keeper's."""
        ...


class Resuming:
    """Ties a course, not begun yet, to the checkpoints of its run."""

    def __init__(self, course: Course, checkpoints: Checkpoints, identity: str) -> None:
        self._course = course
        self._checkpoints = checkpoints
        self._identity = identity

    def resume(self) -> int:
        """Bring the course to its newest checkpoint; how many steps it then has behind it, 0 without one."""
        newest = next(self._checkpoints.found(self._identity), None)
        if newest is not None:
            self._course.restore(newest)
        return len(self._course.rows)

    def keep(self) -> None:
        """Put the course away if that is due; to be called between two steps."""
        step = len(self._course.rows)
        if self._checkpoints.due(step):
            self._checkpoints.keep(self._identity, step, self._course.state())


def identity(job: Job, selection: Selection) -> str:
    """A digest of all that a run's numbers follow from: weights, records, sets, parameters, code and torch's version.

    A run goes on from a checkpoint only if this is the same. Where it is computed (device, threads) has no part in it,
    nor how many records go through the model at once: for want of memory the next attempt may take fewer.
    """
    parameters = dataclasses.asdict(job.parameters)
    del parameters["micro_batch_size"]
    told = {
        "model": [[file.path, file.sha256] for file in job.model_files],
        "dataset": dataclasses.asdict(job.dataset),
        "task": job.task,
        "parameters": parameters,
        "torch": torch.__version__,
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for places in (selection.forget, selection.retain, selection.holdout):
        digest.update(len(places).to_bytes(8, "big") + places.file.tobytes() + places.row.tobytes())
    for path in _sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources() -> Iterable[Path]:
    return (path for package in _PACKAGES for path in sorted((_CODE / package).rglob("*.py")))
