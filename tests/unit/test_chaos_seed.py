"""What breaks in ``make chaos``, when and for how long, follows from the seed alone."""

from itertools import pairwise

from tests.chaos import KINDS, faults


def test_a_seed_gives_the_same_faults_again_and_another_seed_others() -> None:
    first = list(faults(1, 600))
    assert list(faults(1, 600)) == first
    assert list(faults(2, 600)) != first
    assert list(faults(1, 300)) == [fault for fault in first if fault.at_s < 300]


def test_every_kind_of_fault_comes_in_time() -> None:
    found = list(faults(1, 3600))
    assert {fault.kind for fault in found} == KINDS.keys()
    assert all(1 <= later.at_s - sooner.at_s <= 7 for sooner, later in pairwise(found))
