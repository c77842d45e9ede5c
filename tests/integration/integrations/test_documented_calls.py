"""Every call in the pages for privacy platforms and for test mode does what the page says."""

import re
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.builders.curl import examples
from tests.builders.sandbox import Sandbox, site_on

pytestmark = pytest.mark.integration

DOCS = Path(__file__).parents[3] / "docs"
PAGES = [DOCS / "sandbox.md", *(page for page in sorted((DOCS / "integrations").glob("*.md")) if page.stem != "README")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_calls_of_a_page_do_what_it_says(emptied: Engine, page: Path) -> None:
    box = Sandbox(site_on(emptied))
    key = box.caller.headers["Authorization"].removeprefix("Bearer ")
    me = box.caller.get("/v1/whoami").json()
    variables = {"UNLEARN_URL": "http://test", "UNLEARN_KEY": key, "UNLEARN_KEY_ID": me["key_id"]}
    found = list(examples(page))
    assert found
    for example in found:
        method, path, parts = example.filled(variables)
        answer = site_on(emptied).call(method, path, **parts)
        assert answer.status_code == example.status, f"{method} {path}: {answer.text}"
        if method == "POST" and "id" in answer.json():
            variables["REQUEST"] = answer.json()["id"]


def test_the_walk_through_ends_as_its_page_says(emptied: Engine) -> None:
    box = Sandbox(site_on(emptied))
    request = box.person("ana@example.org", regulation="gdpr", hold_seconds=3600)
    box.settle()
    assert box.read(request["id"])["status"] == "pending"
    box.advance(3600)
    box.settle()
    assert box.read(request["id"])["status"] == "completed"


def test_the_index_names_every_page_and_links_lead_somewhere() -> None:
    for page in (DOCS / "integrations").rglob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"
    index = (DOCS / "integrations/README.md").read_text()
    for page in PAGES[1:]:
        assert f"({page.name})" in index
