"""Damages small valid files and has them read in a confined process; only our own errors may come of it."""

import random
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.fuzzing.seeds import bombs, seeds

LIMIT_S: Final = 30.0
"""Of the wall, for one file; a busy machine is no hang."""
_NUMBERS: Final = (0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)

Damage = Callable[[random.Random, bytearray], None]


@dataclass
class Outcome:
    """What became of the files."""

    files: Counter[str] = field(default_factory=Counter[str])
    """By answer: accepted, refused and why."""
    findings: list[str] = field(default_factory=list[str])
    """Files that did anything else, and what."""


def fuzz_files(folder: Path, *, seed: int, count: int | None = None, seconds: float | None = None) -> Outcome:
    """The bombs and then damaged files, ``count`` in all or as many as fit into the time.

    Files with findings stay in ``folder``.
    """
    outcome, began = Outcome(), time.monotonic()
    with Reader() as reader:
        for number, (kind, content) in enumerate(_files(random.Random(seed))):
            if number == count or (seconds is not None and time.monotonic() - began > seconds):
                break
            _try(reader, outcome, folder / f"{number}", kind, content)
    return outcome


def _try(reader: "Reader", outcome: Outcome, path: Path, kind: str, content: bytes) -> None:
    path.write_bytes(content)
    answer = reader.read(kind, path)
    outcome.files[" ".join(answer.split()[:2])] += 1
    if answer.split()[0] in ("accepted", "refused"):
        path.unlink()
    else:
        outcome.findings.append(f"{kind} {path.name}: {answer}")


def _files(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    yield from bombs()
    valid = seeds()
    while True:
        for kind, content in valid.items():
            yield kind, damaged(chance, content)


def damaged(chance: random.Random, content: bytes) -> bytes:
    """``content`` with one to four things wrong."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        chance.choice(_DAMAGES)(chance, changed)
    return bytes(changed)


def _flip(chance: random.Random, content: bytearray) -> None:
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _cut(chance: random.Random, content: bytearray) -> None:
    del content[chance.randint(0, len(content)) :]


def _overwrite(chance: random.Random, content: bytearray) -> None:
    """A number of interest, as little or big endian of some width, near the beginning, the end or anywhere."""
    width = chance.choice((1, 2, 4, 8))
    value = chance.choice(_NUMBERS) % 2 ** (8 * width)
    last = max(0, len(content) - width)
    place = chance.choice((0, min(8, last), last, max(0, last - 8), chance.randint(0, last)))
    content[place : place + width] = value.to_bytes(width, chance.choice(("little", "big")))


def _remove(chance: random.Random, content: bytearray) -> None:
    start = chance.randint(0, len(content))
    del content[start : start + chance.randint(1, 64)]


def _repeat(chance: random.Random, content: bytearray) -> None:
    start = chance.randint(0, len(content))
    piece = content[start : start + chance.randint(1, 64)]
    content[start:start] = piece * chance.choice((1, 2, 1000))


def _deepen(chance: random.Random, content: bytearray) -> None:
    """In JSON, something nested where there was a value."""
    depth = chance.choice((10, 500, 990, 5000))
    place = chance.randint(0, len(content))
    content[place:place] = chance.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth))


def _replace_number(chance: random.Random, content: bytearray) -> None:
    """In JSON, another value where a digit was."""
    digits = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
    if digits:
        place = chance.choice(digits)
        content[place : place + 1] = chance.choice(
            (b"-1", b"1e999", b"null", b"true", b"[]", b"{}", b'""', b"9" * 30, b"9" * 5000, b"0.5", b"NaN")
        )


_DAMAGES: Final[Sequence[Damage]] = (_flip, _flip, _cut, _overwrite, _remove, _repeat, _deepen, _replace_number)


class Reader:
    """The confined process (``benchmarks.fuzzing.parsing``), started again whenever it has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def read(self, kind: str, path: Path) -> str:
        """What becomes of the file: the process's answer, or ``hung`` or ``crashed``."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{kind} {path}\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], LIMIT_S)
        answer = process.stdout.readline().strip() if ready else ""
        if answer:
            return answer
        code = process.poll() if not ready else process.wait()
        self._end()
        return f"crashed with {code}" if ready else f"hung for {LIMIT_S} s"

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is None:
            command = [sys.executable, "-m", "benchmarks.fuzzing.parsing"]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._process = subprocess.Popen(command, text=True, **pipes)
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
