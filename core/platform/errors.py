"""What can go wrong in words of the domain; ``api/errors.py`` alone knows HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an input: where (JSON Pointer), a stable code, and a sentence.

    ``detail`` never repeats personal data.
    """

    pointer: str
    code: str
    detail: str


class DomainError(Exception):
    """Base of every expected failure.

    ``code`` is stable and public; the message is one sentence a caller can act on and never holds personal data.
    """

    code: ClassVar[str]
    retry_after_s: int | None = None

    def __init__(self, detail: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.problems = tuple(problems)


class NotFound(DomainError):
    """No such object in the caller's workspace (or it belongs to another one, which must look the same)."""

    code = "not_found"


class InvalidInput(DomainError):
    """Well-formed but not acceptable; ``problems`` say where."""

    code = "invalid_input"


class Conflict(DomainError):
    """The object is not in a state that allows this."""

    code = "conflict"


class IllegalTransition(Conflict):
    """A state machine has no such move."""

    code = "illegal_transition"


class AlreadyExists(Conflict):
    """A unique name or key is taken."""

    code = "already_exists"


class DependencyDown(DomainError):
    """Database, broker or object store does not answer; trying again later may help."""

    code = "dependency_down"
    retry_after_s = 5
