"""What can go wrong in a run, in words its user can act on."""

from core.unlearning.job import Failure


class UnlearningError(Exception):
    """A failure that is known and explained: ``code`` is stable, ``message`` says what to do about it.

    ``retryable`` means that the same job may succeed later without anybody changing anything.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable

    def as_failure(self) -> Failure:
        """The same in the words that worker and child share."""
        return Failure(code=self.code, message=self.message, retryable=self.retryable)


class BadRecord(UnlearningError):
    """One record cannot be used. Names its place (file and row), never its content."""

    def __init__(self, file: str, row: int, why: str) -> None:
        super().__init__("bad_record", f"The record in row {row} of {file} cannot be used: {why}.")


class UnsupportedModel(UnlearningError):
    """The model folder is of a kind this service does not load."""

    def __init__(self, why: str) -> None:
        super().__init__("unsupported_model", f"The model cannot be unlearned: {why}.")


class Cancelled(Exception):
    """The caller asked the run to stop."""
