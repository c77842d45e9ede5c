"""Doing a published run again on this machine, and how its weights compare with those that were published."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any, Final, Literal

from core.platform.objects import ObjectStore
from core.platform.objects.transfer import fetch_verified
from core.platform.version import Code
from core.runs.replaying import NotReplayable, Rebuilt
from core.unlearning.job import SELECTION_FILE, StoredFile

Result = Literal["identical", "close", "different"]
WEIGHTS: Final = ".safetensors"
_PARTS: Final = ("device", "torch", "threads", "cpu", "processes", "micro_batch_size", "code")


@dataclass(frozen=True, slots=True)
class Replayed:
    """How the weights compare.

    ``identical``: every weights file has the published SHA-256. ``close``: this is not what the run ran on (``differs``
    names the parts), and the weights lie within the tolerance. ``different``: anything else. ``distance``: between
    the two results, as a share of the distance from the base to the published weights; None when identical.
    """

    run_id: str
    result: Result
    distance: float | None
    differs: tuple[str, ...]


def replay(rebuilt: Rebuilt, store: ObjectStore, folder: Path, code: Code, *, tolerance: float) -> Replayed:
    """Carry the job out in ``folder``, where its selection lies, and compare; nothing is uploaded.

    Raises ``NotReplayable`` when a file has gone or the run does not come to an end, ``DependencyDown`` and
    ``DigestMismatch`` as the store does.
    """
    from core.unlearning.run import run_job  # loads torch, which takes seconds

    model, output = folder / "model", folder / "output"
    output.mkdir()
    _fetch(store, rebuilt.job.model_files, model)
    dataset = [
        _fetch(store, [file], folder / "dataset" / str(n))[0] for n, file in enumerate(rebuilt.job.dataset.files)
    ]
    outcome = run_job(
        rebuilt.job,
        model_dir=model,
        dataset_files=dataset,
        selection=folder / SELECTION_FILE,
        output_dir=output,
        report=lambda _: None,
        cancelled=lambda: False,
    )
    if outcome.failure is not None:
        raise NotReplayable(f"{rebuilt.job.run_id} did not come to an end this time: {outcome.failure.message}")
    differs = _differences(rebuilt.worker, {**outcome.worker, "code": code})
    if _same_weights(output, rebuilt.published):
        return Replayed(rebuilt.job.run_id, "identical", None, differs)
    published = folder / "published"
    _fetch(store, [file for file in rebuilt.published if file.path.endswith(WEIGHTS)], published)
    distance = relative_distance(output, published, model)
    close = bool(differs) and distance <= tolerance
    return Replayed(rebuilt.job.run_id, "close" if close else "different", distance, differs)


def relative_distance(replayed: Path, published: Path, base: Path) -> float:
    """‖replayed − published‖ / ‖published − base‖ over all tensors that the published weights hold.

    A tensor that another folder lacks counts as zeros there. Infinite when nothing moved and the results differ.
    """
    apart = moved = 0.0
    for path in sorted(file.relative_to(published) for file in published.rglob(f"*{WEIGHTS}")):
        tensors = [_tensors(folder / path) for folder in (published, replayed, base)]
        for name, wanted in tensors[0].items():
            found, before = (other.get(name, wanted * 0) for other in tensors[1:])
            apart += float(((found.double() - wanted.double()) ** 2).sum())
            moved += float(((wanted.double() - before.double()) ** 2).sum())
    if apart == 0:
        return 0.0
    return sqrt(apart / moved) if moved else float("inf")


def _tensors(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(path) if path.exists() else {}


def _fetch(store: ObjectStore, files: "list[StoredFile] | tuple[StoredFile, ...]", folder: Path) -> list[Path]:
    try:
        return [fetch_verified(store, file, folder) for file in files]
    except FileNotFoundError:
        names = ", ".join(file.path for file in files)
        raise NotReplayable(f"A file is no longer in the object store, one of {names}.") from None


def _same_weights(output: Path, published: tuple[StoredFile, ...]) -> bool:
    wanted = {file.path: file.sha256 for file in published if file.path.endswith(WEIGHTS)}
    found = {path.relative_to(output).as_posix(): _sha256(path) for path in output.rglob(f"*{WEIGHTS}")}
    return found == wanted


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    then = {"micro_batch_size": now.get("micro_batch_size"), **then}  # older runs do not say it, and never changed it
    return tuple(part for part in _PARTS if then.get(part) != now.get(part))
