"""A time-limited claim on a row, on the database's clock, with a token that fences every later write."""

import secrets
from dataclasses import dataclass


class LeaseLost(Exception):
    """The claim has ended or somebody else holds it now: stop at once and write nothing."""

    def __init__(self, row_id: str) -> None:
        super().__init__(f"the lease on {row_id} is no longer ours")
        self.row_id = row_id


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim. ``attempt`` counts the claims on the row; no two claims share a token."""

    row_id: str
    token: str
    attempt: int


def new_token() -> str:
    """A token that nobody else holds."""
    return secrets.token_hex(16)
