"""What becomes of a record by the requests that cover it."""

import pytest

from core.deletions.progress import record_state
from core.deletions.repository import Coverage


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({"completed"}, "erased"),
        ({"cancelled"}, "active"),
        ({"completed", "cancelled"}, "erased"),
        ({"completed", "pending"}, "pending_erasure"),
        ({"cancelled", "in_progress"}, "pending_erasure"),
        ({"cancelled", "needs_review"}, "pending_erasure"),
        ({"cancelled", "failed"}, "pending_erasure"),
        ({"failed", "completed"}, "erased"),
    ],
)
def test_a_record_is_free_only_when_nobody_wants_it_erased(statuses: set[str], expected: str) -> None:
    assert record_state(Coverage("r-1", frozenset(statuses))) == expected
