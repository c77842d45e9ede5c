"""The next item is made while the last one is used, and nobody can tell from the items."""

import gc
import threading
from collections.abc import Iterator

import pytest

from core.unlearning.ahead import ahead


def threads() -> int:
    return sum(thread.name.startswith("ahead") for thread in threading.enumerate())


def test_items_come_in_order_and_to_the_end() -> None:
    assert list(ahead(iter(range(100)))) == list(range(100))
    assert list(ahead(iter([]))) == []
    assert threads() == 0


def test_the_next_is_made_while_this_one_is_used() -> None:
    made = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for number in range(3):
            made[number].set()
            yield number

    for number in ahead(items()):
        assert number == 2 or made[number + 1].wait(30)


def test_no_more_than_one_is_made_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    coming = ahead(items())
    for number in range(5):
        next(coming)
        assert len(made) <= number + 2


def test_what_goes_wrong_is_raised_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("second")

    coming = ahead(items())
    assert next(coming) == 1
    with pytest.raises(KeyError, match="second"):
        next(coming)
    assert threads() == 0


def test_the_thread_ends_when_nobody_asks_any_more() -> None:
    coming = ahead(iter(range(10**9)))
    assert next(coming) == 0
    assert threads() == 1
    del coming
    gc.collect()
    assert threads() == 0
