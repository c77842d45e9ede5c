"""Which rows of which files are forgotten, retained, held out, and looked at again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.unlearning.failures import UnlearningError
from core.unlearning.job import Set
from core.unlearning.seed import generator


@dataclass(frozen=True, slots=True)
class Places:
    """Where records lie: ``file[i]`` indexes the dataset's files, ``row[i]`` the 0-based row in that file."""

    file: NDArray[np.int64]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: NDArray[np.integer]) -> "Places":
        """The places at ``index``, in that order."""
        return Places(self.file[index], self.row[index])

    def sample(self, size: int, *, seed: int) -> "Places":
        """At most ``size`` places drawn without replacement, in reading order; all of them if they fit."""
        if len(self) <= size:
            return self
        drawn = generator(seed, "evaluation").choice(len(self), size=size, replace=False)
        return self.take(np.sort(drawn))


@dataclass(frozen=True, slots=True)
class Selection:
    """The disjoint sets of one run, each sorted by file and row. ``holdout`` and ``earlier`` may be empty."""

    forget: Places
    retain: Places
    holdout: Places
    earlier: Places = field(default_factory=lambda: Places(np.empty(0, np.int64), np.empty(0, np.int64)))
    """Records that runs before this one forgot: measured, and never trained on."""
    earlier_runs: tuple[str, ...] = ()
    """For each record of ``earlier`` the id of the run that forgot it."""
    forget_ids: tuple[str, ...] = ()
    """The record ids of ``forget``, in its order; only its own, since the other sets may be large."""


def by_run(selection: Selection) -> dict[str, Places]:
    """The earlier records of each run that forgot some, by its id."""
    runs = np.array(selection.earlier_runs)
    return {str(run): selection.earlier.take(np.flatnonzero(runs == run)) for run in np.unique(runs)}


def read_selection(path: Path, *, files: int) -> Selection:
    """Read ``selection.parquet``: columns ``set``, ``record_id``, ``file``, ``row``, and ``run_id`` where there is an
    earlier set.

    files: how many files the dataset has. Raises ``UnlearningError`` when the file is unreadable, a place names a
    file that does not exist, or the forget or retain set is empty.
    """
    try:
        table = pq.read_table(path, columns=["set", "file", "row"])
        forget_ids = _of_each(path, "forget", "record_id")
        earlier_runs = _of_each(path, "earlier", "run_id") if "earlier" in table["set"].unique().to_pylist() else ()
    except (OSError, pa.ArrowException) as error:
        raise UnlearningError("bad_selection", "The selection of records cannot be read.") from error
    forget, retain, holdout, earlier = (_places(table, name) for name in ("forget", "retain", "holdout", "earlier"))
    for places in (forget, retain, holdout, earlier):
        if len(places) and not 0 <= places.file.min() <= places.file.max() < files:
            raise UnlearningError(
                "bad_selection", f"The selection names a file that the dataset's {files} do not hold."
            )
    if not len(forget):
        raise UnlearningError("empty_forget_set", "There is no record to forget: all of them are erased or unknown.")
    if not len(retain):
        raise UnlearningError(
            "empty_retain_set", "No record would remain to be retained: delete the model version instead of unlearning."
        )
    return Selection(forget, retain, holdout, earlier, earlier_runs, forget_ids)


def _places(table: pa.Table, name: Set) -> Places:
    here = np.asarray(pc.call_function("equal", [table["set"].cast(pa.string()), name]))
    file, row = (cast("NDArray[np.int64]", table[key].to_numpy().astype(np.int64)[here]) for key in ("file", "row"))
    order = np.lexsort((row, file))
    return Places(file[order], row[order])


def _of_each(path: Path, name: Set, column: str) -> tuple[str, ...]:
    """The column's value of each record of one set, in the set's order."""
    rows = pq.read_table(path, columns=["file", "row", column], filters=[("set", "=", name)])
    return tuple(rows.sort_by([("file", "ascending"), ("row", "ascending")])[column].to_pylist())
