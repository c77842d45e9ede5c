"""Looks for calls and files that the service does not stand.

    OMP_NUM_THREADS=1 python -m benchmarks.fuzz --minutes 30 [--seed 1] [--database-url URL] [--keep FOLDER]

A third of the time goes to calls that schemathesis makes up from the OpenAPI document, a third to the bounds of every
parameter and to walks along the links, all with every check and in process, and a third to damaged files, which a
confined process reads. Prints what was tried; ends with 1 when anything was found. Without ``--database-url`` an
embedded PostgreSQL is used; a scratch database of its own in either case.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import structlog

from benchmarks.dataset_index import scratch_database
from benchmarks.fuzzing.contract import Effort, fuzz
from benchmarks.fuzzing.files import fuzz_files


def _calls(database_url: str | None, folder: Path, name: str, effort: Effort) -> int:
    place = folder / name.replace(" ", "-")  # an embedded database is the folder's
    place.mkdir()
    with scratch_database(database_url, place) as engine:
        outcome = fuzz(engine, effort)
    print(
        f"{name}: {outcome.calls.total()} calls {dict(outcome.calls)}, answers {dict(sorted(outcome.statuses.items()))}"
    )
    print(f"{name}: {len(outcome.succeeded)} operations succeeded at least once")
    for what, said in outcome.findings.items():
        print(f"FOUND {what}\n{said}\n")
    return len(outcome.findings)


def _files(folder: Path, seed: int, seconds: float) -> int:
    outcome = fuzz_files(folder, seed=seed, seconds=seconds)
    print(f"files: {outcome.files.total()}, {dict(outcome.files.most_common())}")
    for finding in outcome.findings:
        print(f"FOUND {finding} in {folder}")
    return len(outcome.findings)


def main() -> None:
    """Try for the time that is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database-url", help="of a server on which a database may be made")
    parser.add_argument("--keep", type=Path, help="folder for files that were not refused properly")
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    third = max(10, int(args.minutes * 60 / 3))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user when this process is root's
        keep = args.keep or folder / "files"
        keep.mkdir(parents=True, exist_ok=True)
        made_up = Effort(examples=1000, walks=0, seed=args.seed, seconds=third)
        at_bounds = Effort(examples=0, walks=1000, boundaries=True, seed=args.seed, seconds=third)
        found = _files(keep, args.seed, third)
        found += _calls(args.database_url, folder, "made up", made_up)
        found += _calls(args.database_url, folder, "boundaries and links", at_bounds)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
