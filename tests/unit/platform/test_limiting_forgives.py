"""A store of limits that is away refuses nobody and delays few."""

import pytest
from throttled import MemoryStore
from throttled.exceptions import StoreUnavailableError

from core.platform.limits import WINDOW_S, Buckets, Forgiving, Limiter, Quota, Standing, open_limiter
from core.platform.settings import Settings

QUOTA = Quota("write", 3)


class Store:
    """A limiter that can be away, and counts how often it was asked."""

    def __init__(self) -> None:
        self.away = True
        self.asked = 0

    def take(self, quota: Quota, who: str) -> Standing:  # noqa: ARG002
        self.asked += 1
        if self.away:
            raise StoreUnavailableError
        return Standing(quota, True, 2, 20)


def test_a_bucket_says_how_much_is_left_and_when_there_is_more() -> None:
    buckets = Buckets(MemoryStore())
    taken = [buckets.take(QUOTA, "key_a") for _ in range(4)]
    assert [one.remaining for one in taken] == [2, 1, 0, 0]
    assert [one.allowed for one in taken] == [True, True, True, False]
    assert [one.reset_s for one in taken] == [20, 40, 20, 20]  # full again; once it is empty, until the next one
    assert buckets.take(QUOTA, "key_b").remaining == 2
    assert buckets.take(Quota("read", 3), "key_a").remaining == 2


def test_a_store_that_is_away_is_not_asked_again_for_a_while() -> None:
    store, skipped, now = Store(), [], [1000.0]
    limiter = Forgiving(store, lambda: skipped.append(1), lambda: now[0])
    assert [limiter.take(QUOTA, "k") for _ in range(3)] == [None, None, None]
    assert (store.asked, len(skipped)) == (1, 3)
    now[0] += 6
    assert limiter.take(QUOTA, "k") is None
    assert store.asked == 2
    store.away, now[0] = False, now[0] + 6
    assert limiter.take(QUOTA, "k") is not None
    assert limiter.take(QUOTA, "k") is not None
    assert (store.asked, len(skipped)) == (4, 4)


def test_while_one_call_tries_a_store_that_was_away_others_pass() -> None:
    now = [1000.0]

    class Slow(Store):
        def take(self, quota: Quota, who: str) -> Standing:
            seen.append(limiter.take(quota, "other") if self.asked else None)
            return super().take(quota, who)

    store, seen = Slow(), list[object]()
    limiter = Forgiving(store, lambda: None, lambda: now[0])
    limiter.take(QUOTA, "k")
    now[0] += 6
    limiter.take(QUOTA, "k")
    assert (store.asked, seen) == (2, [None, None])


@pytest.mark.parametrize(
    ("sections", "kind"),
    [
        ({}, Buckets),
        ({"broker": {"url": "filesystem:///somewhere"}}, Buckets),
        ({"broker": {"url": "redis://nowhere.example/0"}}, Forgiving),
        ({"broker": {"url": "filesystem:///x"}, "limits": {"url": "rediss://nowhere.example/0"}}, Forgiving),
    ],
)
def test_redis_is_used_where_there_is_one(sections: dict[str, object], kind: type[Limiter]) -> None:
    settings = Settings.model_validate({"secret": "x" * 32, **sections})
    assert isinstance(open_limiter(settings, on_skip=lambda: None), kind)


def test_defaults_trip_nobody_and_opendsr_gets_what_the_standard_asks() -> None:
    limits = Settings().limits
    assert limits.writes >= 600
    assert limits.reads >= 3000
    assert limits.polls > limits.reads
    assert limits.opendsr >= 600
    assert WINDOW_S == 60
    with pytest.raises(ValueError, match="at least 600"):
        Settings.model_validate({"limits": {"opendsr": 599}})
    assert Settings.model_validate({"limits": {"opendsr": 0}}).limits.opendsr == 0
