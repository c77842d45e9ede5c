"""The pages people look at: whole without any other host."""

import re
from urllib.parse import urlsplit

import pytest

from api.errors import STATUS
from core.platform.database import open_engine
from core.platform.errors import DomainError
from tests.builders.web import Web, web

pytestmark = pytest.mark.contract

_ADDRESS = re.compile(r"""(?:src|href)\s*=\s*["']([^"']+)["']|url\(["']?([^"')]+)""")


@pytest.fixture(scope="module")
def site() -> Web:
    return web(open_engine("postgresql://nobody@127.0.0.1:1/none"))


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/problems", "/problems/not_found"])
def test_pages_load_nothing_from_another_host(site: Web, path: str) -> None:
    page = site.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"https?://|[\"'(]//", page.text), "another host is named"
    for match in _ADDRESS.finditer(page.text):
        target = match[1] or match[2]
        assert not urlsplit(target).netloc
        assert site.get(target).status_code == 200, target


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_browser_is_told_to_load_nothing_from_another_host(site: Web, path: str) -> None:
    page = site.get(path)
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    for name, sources in policy.items():
        assert not re.search(r"https?:|\*", sources), name
    assert "'unsafe-inline'" not in policy["script-src"]
    assert "'unsafe-eval'" not in policy["script-src"]
    inline = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    assert policy["script-src"].count("'sha256-") == len(inline)


@pytest.mark.parametrize(
    "path", ["/docs", "/problems/nothing", "/static/redoc.standalone.js", "/docs/nothing", "/healthz"]
)
def test_every_answer_forbids_framing_guessing_and_what_it_does_not_need(site: Web, path: str) -> None:
    headers = site.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert (headers["x-frame-options"], headers["referrer-policy"]) == ("DENY", "no-referrer")


def test_the_pages_show_our_document(site: Web) -> None:
    for path in ("/docs", "/redoc"):
        assert "/openapi.json" in site.get(path).text
    document = site.get("/openapi.json")
    assert document.headers["content-type"] == "application/json"
    assert document.json()["openapi"].startswith("3.1")


def test_assets_are_ours_and_nothing_else_is_served(site: Web) -> None:
    for name, kind in (
        ("swagger-ui-bundle.js", "text/javascript"),
        ("swagger-ui.css", "text/css"),
        ("redoc.standalone.js", "text/javascript"),
        ("favicon.png", "image/png"),
    ):
        answer = site.get(f"/static/{name}")
        assert answer.headers["content-type"].startswith(kind)
        assert len(answer.content) > 100
    for name in ("secret.txt", "..%2fcore.py", "%2e%2e/core.py"):
        assert site.get(f"/static/{name}").status_code == 404


@pytest.mark.parametrize("kind", STATUS, ids=lambda kind: kind.code if hasattr(kind, "code") else "base")
def test_every_problem_type_has_a_page(site: Web, kind: type[DomainError]) -> None:
    page = site.get(f"/problems/{kind.code}")
    assert page.status_code == 200
    assert kind.code in page.text
    assert str(STATUS[kind]) in page.text


def test_an_unknown_problem_type_has_none(site: Web) -> None:
    assert site.get("/problems/no_such").status_code == 404
