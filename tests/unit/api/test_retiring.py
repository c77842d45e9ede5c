"""A route on its way out says so, in every answer and in the document."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from starlette.responses import Response

from api.middleware import AnswerHeaders
from api.retiring import note_in, retiring, tell_retirement

SINCE = datetime(2031, 3, 1, tzinfo=UTC)
SUNSET = datetime(2031, 9, 1, 12, tzinfo=UTC)
PAGE = "https://unlearn.example/docs/old"


def _application() -> FastAPI:
    app = FastAPI()
    app.add_middleware(AnswerHeaders, changes=[tell_retirement])

    @app.get("/old")
    @retiring(since=SINCE, sunset=SUNSET, page=PAGE)
    def old(broken: bool = False) -> Response:
        """The old way."""
        if broken:
            raise HTTPException(409)
        return Response("x", headers={"Link": '</old?cursor=1>; rel="next"'})

    @app.get("/undecided")
    @retiring(since=SINCE, page=PAGE)
    def undecided() -> None: ...

    @app.get("/new")
    def new() -> None: ...

    return app


def _get(path: str) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app=_application())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path)

    return asyncio.run(go())


@pytest.mark.parametrize("path", ["/old", "/old?broken=true", "/old?broken=never"])
def test_every_answer_says_since_when_and_until_when(path: str) -> None:
    answer = _get(path)
    assert answer.headers["deprecation"] == f"@{int(SINCE.timestamp())}"
    assert parsedate_to_datetime(answer.headers["sunset"]) == SUNSET
    assert answer.headers["sunset"].endswith("GMT")
    links = answer.headers["link"]
    assert f'<{PAGE}>; rel="deprecation"' in links
    assert f'<{PAGE}>; rel="sunset"' in links
    assert ('rel="next"' in links) is (path == "/old")


def test_without_a_date_there_is_no_sunset_and_others_say_nothing() -> None:
    assert "sunset" not in _get("/undecided").headers
    assert "deprecation" in _get("/undecided").headers
    assert not {"deprecation", "sunset", "link"} & set(_get("/new").headers)


def test_the_document_says_it_too() -> None:
    app = _application()
    paths = app.openapi()["paths"]
    note_in(paths, app.routes)
    assert paths["/old"]["get"]["deprecated"] is True
    assert "2031-09-01" in paths["/old"]["get"]["description"]
    assert "deprecated" not in paths["/new"]["get"]


def test_nothing_is_gone_before_it_is_deprecated() -> None:
    with pytest.raises(ValueError, match="before"):
        retiring(since=SINCE, sunset=SINCE - timedelta(days=1), page=PAGE)
