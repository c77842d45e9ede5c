"""Certificates and reports, and the keys that sign them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Response
from starlette.responses import HTMLResponse

from api.accepting import preferred
from api.deps import Keys, PageIn, Tx, requires
from api.errors import problems
from api.schemas.certificates import CertificateOut, CertificateSummaryOut, JwksOut, Kind, ProofOut
from api.schemas.common import Listing
from core.access.principal import Principal
from core.certificates import keys, service
from core.certificates.illustrating import illustrations
from core.certificates.page import render
from core.certificates.repository import CertificateFilter
from core.certificates.service import CertificateView

router = APIRouter(tags=["certificates"])

Reader = Annotated[Principal, requires("deletions:read")]

_JSON: Final = "application/json"
_JOSE: Final = "application/jose"
_HTML: Final = "text/html"
_FORMS: Final = (_JSON, _JOSE, _HTML)
_PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ANOTHER_FORM: Final = {"schema": {"type": "string"}}


@router.get(
    "/v1/certificates",
    response_model=Listing[CertificateSummaryOut],
    summary="List certificates and reports",
    responses=problems(400, 401, 403, 422),
)
def list_certificates(
    caller: Reader,
    tx: Tx,
    page: PageIn,
    kind: Kind | None = None,
    run: Annotated[str | None, Query(description="id of a run")] = None,
    model: Annotated[str | None, Query(description="name or id")] = None,
    request: Annotated[str | None, Query(description="id of a deletion request")] = None,
) -> Listing[CertificateSummaryOut]:
    """The workspace's certificates and reports, newest first. Every run that has succeeded or failed gets one."""
    wanted = CertificateFilter(kind=kind, run=run, model=model, request=request)
    found = service.search(tx, workspace_id=caller.workspace_id, wanted=wanted, page=page)
    return page.answer(found, CertificateSummaryOut.of)


@router.get(
    "/v1/certificates/{certificate_id}",
    response_model=CertificateOut,
    summary="Read a certificate or report",
    responses={200: {"content": {_JOSE: _ANOTHER_FORM, _HTML: _ANOTHER_FORM}}, **problems(401, 403, 404, 406, 422)},
)
def get_certificate(
    certificate_id: str,
    caller: Reader,
    tx: Tx,
    accept: Annotated[str, Header(description=", ".join(f"`{form}`" for form in _FORMS))] = "*/*",
) -> Any:
    """As JSON, as the signed JWS alone, or as a page to print, with plots. Anybody can verify the JWS offline."""
    form = preferred(accept, _FORMS)
    view = service.get(tx, workspace_id=caller.workspace_id, certificate_id=certificate_id)
    if form == _JOSE:
        return Response(view.certificate.jws, media_type=_JOSE)
    return _page(view, service.ledger(tx, view)) if form == _HTML else CertificateOut.of(view)


@router.get(
    "/v1/certificates/{certificate_id}/proof",
    response_model=ProofOut,
    summary="Prove that a certificate speaks of a record",
    responses=problems(401, 403, 404, 422),
)
def prove_record(
    certificate_id: str,
    caller: Reader,
    tx: Tx,
    keyring: Keys,
    record_id: Annotated[str, Query(min_length=1, max_length=1000, description="id of a record")],
) -> ProofOut:
    """What the person may be given who owns the record: it reveals this id and nothing about any other."""
    proof = service.prove(
        tx, workspace_id=caller.workspace_id, certificate_id=certificate_id, record_id=record_id, keyring=keyring
    )
    return ProofOut.of(certificate_id, proof)


@router.get("/.well-known/jwks.json", response_model=JwksOut, summary="Read the signing keys", responses=problems(503))
def read_signing_keys(tx: Tx, reply: Response) -> JwksOut:
    """The public keys that certificates are verified with, retired ones included. No credential is needed."""
    reply.headers["Cache-Control"] = "public, max-age=300"
    return JwksOut(**keys.jwks(tx))


def _page(view: CertificateView, steps: Sequence[Mapping[str, Any]]) -> HTMLResponse:
    drawn = illustrations(view.claims, steps)
    text = render(view.claims, jws=view.certificate.jws, kid=view.certificate.kid, illustrations=drawn)
    return HTMLResponse(text, headers={"Content-Security-Policy": _PAGE_POLICY})
