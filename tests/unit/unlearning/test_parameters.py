"""What the dials of a run come to."""

import pytest

from core.unlearning.job import Parameters


@pytest.mark.parametrize(("retained", "size"), [(1, 32), (256, 32), (400, 50), (401, 51), (1024, 128), (10**7, 128)])
def test_a_minibatch_is_an_eighth_of_the_retain_set_within_bounds(retained: int, size: int) -> None:
    assert Parameters().minibatch(retained) == size


def test_a_minibatch_that_was_asked_for_stays() -> None:
    assert Parameters(batch_size=7).minibatch(10_000) == 7
