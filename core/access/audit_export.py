"""A workspace's audit log as a file: a line of JSON for each event, and at the end a signed checkpoint.

The chain of hashes shows a line that was changed, removed, inserted or moved. That lines are missing at the end shows
by the checkpoint, which names the last one and which only the service can sign. Standard library only, so that a file
can be verified anywhere.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC
from typing import Any, Final, cast

GENESIS: Final = bytes(32)
"""Stands for the line before the first."""
_SAID: Final = ("id", "workspace_id", "sequence", "actor", "action", "object_id", "details", "at")
_FIELDS: Final = (*_SAID, "previous_hash", "hash")
_CHECKPOINT: Final = "checkpoint"


class BrokenLog(Exception):
    """The file is not the log that the service wrote. ``line`` counts from 1."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line
        self.why = why


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log ends: what a checkpoint says."""

    workspace_id: str
    sequence: int
    hash: str
    """In hex; zeros for a log without lines."""


def line_hash(said: Sequence[Any], previous: bytes) -> bytes:
    """SHA-256 over the previous line's hash and everything this line says (``_SAID``), as canonical JSON."""
    return hashlib.sha256(previous + _canonical(said).encode()).digest()


def said_by(event: Any) -> list[Any]:
    """What the hash of an event covers, in order."""
    at = event.at.astimezone(UTC).isoformat(timespec="microseconds")
    return [*(getattr(event, name) for name in _SAID[:-1]), at]


def line_of(event: Any) -> str:
    """An event as one line of the file, without its end."""
    values = dict(zip(_SAID, said_by(event), strict=True))
    return _canonical({**values, "previous_hash": event.previous_hash.hex(), "hash": event.hash.hex()})


def last_line(token: str) -> str:
    """The line that ends the file. ``token``: the signed ``claims``."""
    return _canonical({_CHECKPOINT: token})


def claims(head: Head, *, issuer: str, at: str) -> bytes:
    """What is to be signed."""
    return _canonical({"iss": issuer, "at": at, **asdict(head)}).encode()


def verify(
    lines: Iterable[str], opened: Callable[[str], bytes], *, earlier: Head | None = None, issuer: str | None = None
) -> Head:
    """Where the log ends, if the file is whole and untouched. Lines come with their ends.

    ``opened`` gives what a signed token says or raises ``ValueError``. ``earlier``: the end of a log that was exported
    before and must be its beginning. Raises ``BrokenLog`` naming the first line that is wrong.
    """
    chain = _Chain()
    number = 0
    for number, line in enumerate(lines, 1):
        if chain.ended is not None:
            raise BrokenLog(number, "something follows the checkpoint")
        value = _parsed(line, number)
        if set(value) == {_CHECKPOINT}:
            chain.end(number, value[_CHECKPOINT], opened, issuer)
        else:
            chain.add(number, value, earlier)
    if chain.ended is None:
        raise BrokenLog(number + 1, "the checkpoint is missing: the end was cut off")
    if earlier is not None and not chain.passed(earlier):
        raise BrokenLog(number, "the log ends before the one that was exported earlier, or is of another workspace")
    return chain.ended


class _Chain:
    """What has been read so far."""

    def __init__(self) -> None:
        self.ended: Head | None = None
        self._workspace_id: str | None = None
        self._sequence = 0
        self._hash = GENESIS

    def add(self, number: int, value: Mapping[str, Any], earlier: Head | None) -> None:
        if set(value) != set(_FIELDS):
            raise BrokenLog(number, "it has not the fields of an audit event")
        if value["sequence"] != self._sequence + 1 or type(value["sequence"]) is not int:
            raise BrokenLog(number, f"its sequence is not {self._sequence + 1}: lines were removed, inserted or moved")
        if value["previous_hash"] != self._hash.hex():
            raise BrokenLog(number, "its previous_hash is not the hash of the line before")
        if self._workspace_id not in (None, value["workspace_id"]):
            raise BrokenLog(number, "it is of another workspace")
        digest = line_hash([value[name] for name in _SAID], self._hash)
        if value["hash"] != digest.hex():
            raise BrokenLog(number, "its hash is not that of what it says: it was changed")
        self._sequence, self._hash, self._workspace_id = value["sequence"], digest, value["workspace_id"]
        if earlier is not None and earlier.sequence == self._sequence and earlier != self._head():
            raise BrokenLog(number, "it is not the line that was exported earlier")

    def end(self, number: int, token: Any, opened: Callable[[str], bytes], issuer: str | None) -> None:
        try:
            told = json.loads(opened(token))
        except (ValueError, TypeError) as error:
            raise BrokenLog(number, f"the checkpoint does not hold: {error}") from None
        head = Head(told["workspace_id"], told["sequence"], told["hash"])
        if issuer is not None and told["iss"] != issuer:
            raise BrokenLog(number, f"the checkpoint is not of {issuer}")
        if head.sequence != self._sequence:
            raise BrokenLog(number, f"the checkpoint ends with line {head.sequence}, not {self._sequence}")
        if head != self._head(head.workspace_id):
            raise BrokenLog(number, "the checkpoint is of another log")
        self.ended = head

    def passed(self, earlier: Head) -> bool:
        """Whether the log goes at least as far, in the same workspace; that it is the same there ``add`` has seen."""
        return self.ended is not None and (
            (self.ended.workspace_id, True) == (earlier.workspace_id, self.ended.sequence >= earlier.sequence)
        )

    def _head(self, otherwise: str = "") -> Head:
        return Head(self._workspace_id or otherwise, self._sequence, self._hash.hex())


def _parsed(line: str, number: int) -> Mapping[str, Any]:
    """A line as we write it: any other spelling of the same would be a change that the hash does not cover."""
    try:
        line.encode()  # bytes that are no text come as lone surrogates
        value: Any = json.loads(line)
        if isinstance(value, dict) and _canonical(value) + "\n" == line:  # pyright: ignore[reportUnknownArgumentType]
            return cast("dict[str, Any]", value)
    except (ValueError, RecursionError):
        pass
    raise BrokenLog(number, "it is not a line as the service writes it")


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
