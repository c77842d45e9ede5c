"""A selection's digests follow from the rows that were chosen, and from nothing else."""

import hashlib
import struct
from pathlib import Path

from core.datasets.selection import SelectionWriter, set_digests

FORGET, RETAIN = [("a", 0, 3), ("b", 1, 0)], [("c", 0, 1), ("d", 0, 2), ("e", 2, 7)]


def test_how_the_file_was_written_does_not_matter(tmp_path: Path) -> None:
    with SelectionWriter(tmp_path / "at once") as writer:
        writer.write("forget", FORGET)
        writer.write("retain", RETAIN)
    with SelectionWriter(tmp_path / "bit by bit") as writer:
        for row in RETAIN:
            writer.write("retain", [row])
        for record_id, file, row in FORGET:
            writer.write("forget", [(record_id + "'", file, row)])
    found = set_digests(tmp_path / "at once")
    assert found == set_digests(tmp_path / "bit by bit")
    files, rows = struct.pack("<2q", 0, 1), struct.pack("<2q", 3, 0)
    by_hand = hashlib.sha256(hashlib.sha256(files).digest() + hashlib.sha256(rows).digest())
    assert found["forget"] == by_hand.hexdigest()


def test_another_row_or_another_set_has_another_digest(tmp_path: Path) -> None:
    with SelectionWriter(tmp_path / "one") as writer:
        writer.write("retain", RETAIN)
    with SelectionWriter(tmp_path / "other") as writer:
        writer.write("retain", RETAIN[:2])
        writer.write("holdout", RETAIN[2:])
    one, other = set_digests(tmp_path / "one"), set_digests(tmp_path / "other")
    assert one["retain"] != other["retain"]
    assert one["holdout"] != other["holdout"]
    assert one["forget"] == one["holdout"] == other["forget"]
