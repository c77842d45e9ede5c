"""The document, pages that show it, and a page for each problem type. Nothing is loaded from another host."""

import hashlib
import html
import inspect
from base64 import b64encode
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from api.errors import RouteNotFound, status_of, title_of
from core.platform.errors import DomainError

router = APIRouter(include_in_schema=False)

_ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
    "favicon.png": "image/png",
}


def _folder() -> Path:
    spec = find_spec("fastapi_offline")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package fastapi-offline is not installed")
    return Path(spec.origin).parent / "static"


@router.get("/openapi.json")
def openapi_document(request: Request) -> Response:
    """The OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
def swagger(request: Request) -> Response:
    """Swagger UI."""
    root = request.scope.get("root_path", "")
    page = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title=f"{request.app.title}: try it",
        swagger_js_url=f"{root}/static/swagger-ui-bundle.js",
        swagger_css_url=f"{root}/static/swagger-ui.css",
        swagger_favicon_url=f"{root}/static/favicon.png",
        swagger_ui_parameters={"persistAuthorization": False, "validatorUrl": None},
    )
    return _page(bytes(page.body).decode())


@router.get("/redoc")
def redoc(request: Request) -> Response:
    """ReDoc."""
    root = request.scope.get("root_path", "")
    page = get_redoc_html(
        openapi_url=f"{root}/openapi.json",
        title=f"{request.app.title}: reference",
        redoc_js_url=f"{root}/static/redoc.standalone.js",
        redoc_favicon_url=f"{root}/static/favicon.png",
        with_google_fonts=False,
    )
    return _page(bytes(page.body).decode())


@router.get("/static/{name}")
def asset(name: str) -> Response:
    """One of the pages' assets."""
    if name not in _ASSETS:
        raise RouteNotFound("There is nothing at this path.")
    return FileResponse(_folder() / name, media_type=_ASSETS[name], headers={"Cache-Control": "public, max-age=86400"})


@router.get("/problems")
def problem_types() -> Response:
    """All problem types."""
    rows = "".join(
        f'<li><a href="/problems/{code}"><code>{code}</code></a> ({status_of(kind)})</li>'
        for code, kind in sorted(_kinds().items())
    )
    return _page(_DOCUMENT.format(title="Problem types", body=f"<ul>{rows}</ul>"))


@router.get("/problems/{code}")
def problem_type(code: str) -> Response:
    """What a problem type means; ``type`` of problem documents points here."""
    kind = _kinds().get(code)
    if kind is None:
        raise RouteNotFound("There is no such problem type.")
    text = "".join(f"<p>{html.escape(part)}</p>" for part in inspect.getdoc(kind).split("\n\n"))  # type: ignore[union-attr]
    about = f"<p>Status {status_of(kind)}, code <code>{code}</code></p>{text}"
    return _page(_DOCUMENT.format(title=html.escape(title_of(kind)), body=about))


_DOCUMENT: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title></head><body><h1>{title}</h1>{body}<p><a href="/problems">All problem types</a></p></body></html>
"""


def _kinds() -> dict[str, type[DomainError]]:
    found: dict[str, type[DomainError]] = {}
    waiting = [DomainError]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            found.setdefault(kind.code, kind)
            waiting.append(kind)
    return found


def _page(text: str) -> Response:
    """The page, allowed to run its own inline scripts and ours, and nothing else."""
    inline = " ".join(f"'sha256-{_digest(script)}'" for script in _inline_scripts(text))
    policy = (
        f"default-src 'none'; script-src 'self' {inline}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return HTMLResponse(text, headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"})


def _inline_scripts(text: str) -> list[str]:
    return [part.partition("</script>")[0] for part in text.split("<script>")[1:]]


def _digest(script: str) -> str:
    return b64encode(hashlib.sha256(script.encode()).digest()).decode()
