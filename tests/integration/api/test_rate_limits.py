"""How often a key may call, what every answer says about it, and that nobody is refused for Redis' sake."""

import re
import time
import uuid

import pytest
import redis
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from api.limits import RateLimits
from api.metrics import LimitMetrics
from core.platform.limits import open_limiter
from core.platform.settings import LimitSettings
from tests.builders.waiting import free_port
from tests.builders.web import Web, settings, web

pytestmark = pytest.mark.integration

FEW = {"reads": 2, "writes": 1, "polls": 3, "failures": 2}  # few enough that none comes back during a test
PATH = "/v1/deletion-requests"
HEADERS = ("ratelimit-policy", "ratelimit", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


@pytest.fixture
def own_redis(redis_url: str) -> str:
    """A database of Redis that nobody else has counted in."""
    url = redis_url.rsplit("/", 1)[0] + "/7"
    client = redis.Redis.from_url(url)
    client.flushdb()
    client.close()
    return url


@pytest.fixture(params=["memory", "redis"])
def site(request: pytest.FixtureRequest, emptied: Engine) -> Web:
    where = {} if request.param == "memory" else {"url": request.getfixturevalue("own_redis")}
    return web(emptied, limits={**FEW, **where})


def _statuses(caller: Web, method: str, path: str, times: int) -> list[int]:
    return [caller.call(method, path, **({} if method == "GET" else {"json": {}})).status_code for _ in range(times)]


def test_reads_writes_and_polls_are_counted_apart_and_by_key(site: Web) -> None:
    caller = site.customer()
    assert _statuses(caller, "GET", PATH, 3) == [200, 200, 429]
    assert _statuses(caller, "POST", PATH, 2) == [422, 429]
    assert _statuses(caller, "GET", f"{PATH}/del_x", 4) == [404] * 3 + [429]
    assert _statuses(site.customer(), "GET", PATH, 1) == [200]


def test_every_answer_says_where_the_caller_stands(site: Web) -> None:
    caller, now = site.customer(), time.time()
    for left, path in ((1, PATH), (0, f"{PATH}?limit=0")):
        answer = caller.get(path)
        assert answer.headers["ratelimit-policy"] == '"read";q=2;w=60'
        r, t = re.fullmatch(r'"read";r=(\d+);t=(\d+)', answer.headers["ratelimit"]).groups()  # type: ignore[union-attr]
        assert int(r) == left == int(answer.headers["x-ratelimit-remaining"])
        assert answer.headers["x-ratelimit-limit"] == "2"
        assert 0 < int(t) <= 60
        assert now + int(t) - 1 <= int(answer.headers["x-ratelimit-reset"]) <= time.time() + int(t)


def test_a_refusal_is_a_problem_that_says_when_to_come_back(site: Web) -> None:
    caller = site.customer()
    _statuses(caller, "GET", PATH, 2)
    answer = caller.get(PATH)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
    assert answer.headers["content-type"] == "application/problem+json"
    t = int(answer.headers["ratelimit"].rpartition("t=")[2])
    assert int(answer.headers["retry-after"]) >= t >= 1
    assert all(name in answer.headers for name in HEADERS)
    assert 'unlearn_rate_limited_total{policy="read"} 1.0' in site.get("/metrics").text


def test_a_refusal_of_opendsr_comes_in_its_envelope(emptied: Engine) -> None:
    caller = web(emptied).customer()
    few = LimitSettings().model_copy(update={"opendsr": 1})  # fewer than settings may say
    limiter = open_limiter(settings(), on_skip=lambda: None)
    caller.app.state.limits = RateLimits(few, limiter, LimitMetrics(CollectorRegistry()))
    path = f"/opendsr/v2/requests/{uuid.uuid4()}"
    assert caller.get(path).status_code == 404
    answer = caller.get(path)
    assert answer.status_code == 429
    assert answer.headers["ratelimit-policy"] == '"opendsr";q=1;w=60'
    assert answer.json()["error"]["code"] == 429
    assert answer.json()["error"]["errors"][0]["reason"] == "TooManyRequests"
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["x-opendsr-signature"]


def test_what_must_be_open_is_not_counted(emptied: Engine) -> None:
    site = web(emptied, limits={"reads": 1, "polls": 1})
    for path in (
        "/healthz",
        "/metrics",
        "/problems",
        "/.well-known/jwks.json",
        "/.well-known/oauth-authorization-server",
        "/opendsr/v2/discovery",
    ):
        answers = [site.get(path) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200] * 2, path
        assert not any(name in answers[0].headers for name in HEADERS), path


def test_guessing_is_counted_by_address_and_good_keys_still_get_in(site: Web) -> None:
    good = site.customer()
    bad = site.with_key(f"unl_live_{'0' * 26}_{'a' * 43}")
    assert _statuses(bad, "GET", "/v1/whoami", 3) == [401, 401, 429]
    assert bad.get("/v1/whoami").headers["ratelimit-policy"] == '"failure";q=2;w=60'
    assert site.get("/v1/whoami").status_code == 401  # no credential is no guess
    assert good.get("/v1/whoami").status_code == 200


def test_the_address_behind_a_trusted_proxy_is_the_callers(emptied: Engine) -> None:
    site = web(emptied, limits={"failures": 1}, api={"trusted_proxies": ["127.0.0.1"]})
    bad = site.with_key(f"unl_live_{'0' * 26}_{'a' * 43}")
    statuses = [
        bad.get("/v1/whoami", headers={"X-Forwarded-For": address}).status_code
        for address in ("203.0.113.7", "203.0.113.8", "203.0.113.7", "198.51.100.1, 203.0.113.8")
    ]
    assert statuses == [401, 401, 429, 429]
    untrusting = web(emptied, limits={"failures": 1}).with_key(f"unl_live_{'0' * 26}_{'a' * 43}")
    for address, status in (("203.0.113.7", 401), ("203.0.113.8", 429)):
        assert untrusting.get("/v1/whoami", headers={"X-Forwarded-For": address}).status_code == status


def test_web_processes_share_one_count_through_redis(emptied: Engine, own_redis: str) -> None:
    one = web(emptied, limits={**FEW, "url": own_redis}).customer()
    other = Web(web(emptied, limits={**FEW, "url": own_redis}).app, emptied, one.headers)
    assert _statuses(one, "GET", PATH, 1) + _statuses(other, "GET", PATH, 2) == [200, 200, 429]


def test_without_redis_calls_go_through_and_are_noted(emptied: Engine) -> None:
    site = web(emptied, limits={**FEW, "url": f"redis://127.0.0.1:{free_port()}/0"})
    caller = site.customer()
    answers = [caller.get(PATH) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert "ratelimit" not in answers[0].headers
    assert "unlearn_rate_limit_skipped_total 3.0" in site.get("/metrics").text


def test_zero_means_no_limit(emptied: Engine) -> None:
    caller = web(emptied, limits={"reads": 0}).customer()
    answers = [caller.get(PATH) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200] * 2
    assert "ratelimit" not in answers[0].headers


def test_a_refused_call_is_not_kept_under_its_idempotency_key(emptied: Engine) -> None:
    caller = web(emptied, limits={"writes": 1}).customer()
    body, headers = {"name": "k", "scopes": ["runs:read"]}, {"Idempotency-Key": "k"}
    caller.post(PATH, {})
    assert caller.post("/v1/api-keys", body, headers=headers).status_code == 429
    patient = Web(web(emptied).app, emptied, caller.headers)
    assert patient.post("/v1/api-keys", body, headers=headers).status_code == 201
