"""How things are shared out among the processes of a run."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from core.unlearning.ranks import Ranks


@given(count=st.integers(0, 1000), size=st.integers(1, 9))
def test_shares_follow_each_other_and_differ_by_one_at_most(count: int, size: int) -> None:
    things = list(range(count))
    shares = [things[Ranks(rank, size).share(count)] for rank in range(size)]
    assert [thing for share in shares for thing in share] == things
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_single_process_has_everything_and_asks_nobody() -> None:
    alone = Ranks()
    assert alone.leads
    assert alone.share(7) == slice(0, 7)
    assert alone.gather([1, 2]) == [1, 2]
    assert (alone.any(flag=True), alone.any(flag=False)) == (True, False)
    assert alone.mean(torch.tensor(1.5), 3) == 1.5
