"""The OpenDSR 2.0 processor: discovery, certificate, create, status, cancel. Other spellings of paths: ``paths.py``."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from api.deps import Config, Keys, Now, Tx, requires
from api.errors import PayloadTooLarge, UnsupportedMediaType, answer, meaning
from api.opendsr.frame import JSON, LEGACY
from api.schemas.opendsr import (
    CALLBACK_EXAMPLE,
    CREATE_EXAMPLE,
    CREATE_SCHEMA,
    CancellationOut,
    DiscoveryOut,
    OpenDsrErrorOut,
    ReceiptOut,
    StatusOut,
)
from core.access.principal import Principal
from core.opendsr import messages, service
from core.opendsr.errors import NotPending, SubjectRequestNotFound
from core.opendsr.lifecycle import FINAL, Status
from core.opendsr.parsing import is_request_id, parse
from core.opendsr.profile import Profile
from core.opendsr.signing import Signer
from core.opendsr.tables import OpenDsrRequest

router = APIRouter(prefix=messages.BASE, tags=["OpenDSR"])

LARGEST_BODY: Final = 1024 * 1024
_PEM: Final = "application/pem-certificate-chain"
_CACHED: Final = {"Cache-Control": "public, max-age=3600"}
_POLL_S: Final = 5
_LONGEST_POLL_S: Final = 60

Reader = Annotated[Principal, requires("deletions:read")]
Writer = Annotated[Principal, requires("deletions:write")]


async def _signer(request: Request) -> Signer:
    return request.app.state.opendsr  # never None here: the frame answers when OpenDSR is off


async def _profile(settings: Config) -> Profile:
    return Profile.of(settings)


Sign = Annotated[Signer, Depends(_signer)]
Own = Annotated[Profile, Depends(_profile)]


def _failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": meaning(status), "model": OpenDsrErrorOut} for status in statuses}


def _path_id(**more: Any) -> dict[str, Any]:
    schema = {"type": "string", "format": "uuid"}
    return {"parameters": [{"name": "subject_request_id", "in": "path", "required": True, "schema": schema}], **more}


_CALLBACK: Final = {
    "status": {
        "{$request.body#/status_callback_urls/0}": {
            "post": {
                "summary": "A request has come to another state",
                "description": "Sent to each address, in order, until it answers 2xx. The signature is over the body.",
                "parameters": [
                    {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
                    for name in ("X-OpenDSR-Processor-Domain", "X-OpenDSR-Signature", "webhook-id")
                ],
                "requestBody": {
                    "required": True,
                    "content": {JSON: {"schema": {"type": "object"}, "example": CALLBACK_EXAMPLE}},
                },
                "responses": {"2XX": {"description": "Taken. 410 ends it; anything else is tried again."}},
            }
        }
    }
}


@router.get(
    "/discovery",
    summary="Say what this processor can do",
    response_model=None,
    responses={200: {"model": DiscoveryOut, "description": "Capabilities"}},
)
async def discover(profile: Own) -> Response:
    """Identities, request types and the certificate's address. Public; may be cached for an hour."""
    return _json(200, messages.discovery(profile), _CACHED)


@router.get(
    "/certificate.pem",
    summary="Fetch the signing certificate",
    response_class=Response,
    responses={200: {"content": {_PEM: {}}, "description": "PEM, leaf first"}},
)
async def fetch_certificate(signer: Sign) -> Response:
    """The certificate in use, leaf first, then intermediates. Public; may be cached for an hour."""
    return Response(signer.pem, media_type=_PEM, headers=_CACHED)


@router.get(
    "/certificates/{fingerprint}.pem",
    summary="Fetch a certificate that signed a receipt",
    response_class=Response,
    responses={200: {"content": {_PEM: {}}, "description": "PEM, leaf first"}, **_failures(404)},
    openapi_extra={
        "parameters": [{"name": "fingerprint", "in": "path", "required": True, "schema": {"type": "string"}}]
    },
)
def fetch_old_certificate(request: Request, tx: Tx) -> Response:
    """By the hex SHA-256 of the leaf, also after it was replaced: for the audit of old receipts."""
    pem = service.certificate(tx, fingerprint=request.path_params["fingerprint"])
    return Response(pem, media_type=_PEM, headers=_CACHED)


@router.post(
    "/requests",
    status_code=201,
    summary="Ask for an erasure",
    response_model=None,
    responses={
        201: {"model": ReceiptOut, "description": "Taken"},
        **_failures(400, 401, 403, 409, 413, 415, 503),
    },
    openapi_extra={
        "requestBody": {"required": True, "content": {JSON: {"schema": CREATE_SCHEMA, "example": CREATE_EXAMPLE}}},
        "callbacks": _CALLBACK,
    },
)
async def create_request(
    request: Request, caller: Writer, tx: Tx, keyring: Keys, now: Now, signer: Sign, profile: Own
) -> Response:
    """Takes the request: deletion requests for every model trained on the subject's records, once the hold is over.

    The same body under the same `subject_request_id` is answered with the first receipt and
    `Idempotent-Replayed: true`; another body with 409. People who are not known are taken in the same way.
    Also at `/opendsr/requests`, and at `…/opengdpr_requests` in the form of OpenGDPR 1.0.
    """
    legacy = bool(request.scope["state"][LEGACY])
    body = await _body_of(request)

    def make() -> service.Receipt:
        return service.create(
            tx,
            workspace_id=caller.workspace_id,
            actor=caller.key_id,
            wanted=parse(body, profile.rules(legacy=legacy)),
            legacy=legacy,
            signer=signer,
            profile=profile,
            keyring=keyring,
            at=now,
        )

    made = await run_in_threadpool(make)
    _remember_form(request, made.row)
    return _json(201, messages.receipt(made.row, body), {"Idempotent-Replayed": "true"} if made.replayed else {})


@router.get(
    "/requests/{subject_request_id}",
    summary="Read a request's status",
    response_model=None,
    responses={200: {"model": StatusOut, "description": "Its status"}, **_failures(401, 403, 404, 503)},
    openapi_extra=_path_id(),
)
@router.get("/status/{subject_request_id}", include_in_schema=False)
def read_status(request: Request, caller: Reader, tx: Tx, now: Now, profile: Own) -> Response:
    """One of `pending`, `in_progress`, `completed`, `cancelled`; our extension tells more. Also at `/status/{id}`."""
    look = service.get(tx, workspace_id=caller.workspace_id, subject_request_id=_id_of(request))
    _remember_form(request, look.row)
    return _json(200, messages.status(look.row, look.native_ids, profile), _next_poll(look.row, now))


@router.delete(
    "/requests/{subject_request_id}",
    status_code=202,
    summary="Cancel a request",
    response_model=None,
    responses={202: {"model": CancellationOut, "description": "Cancelled"}, **_failures(401, 403, 404, 409, 503)},
    openapi_extra=_path_id(),
)
def cancel_request(request: Request, caller: Writer, tx: Tx, now: Now, profile: Own) -> Response:
    """Only while it is `pending`; its records are free again. A cancelled request answers the same again."""
    done = service.cancel(
        tx,
        workspace_id=caller.workspace_id,
        subject_request_id=_id_of(request),
        actor=caller.key_id,
        profile=profile,
        at=now,
    )
    if isinstance(done, NotPending):
        return answer(request, done)
    _remember_form(request, done)
    return _json(202, messages.cancellation(done), {})


def _json(status: int, message: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    return Response(messages.encode(message), status, dict(headers), media_type=JSON)


async def _body_of(request: Request) -> bytes:
    """The bytes as they came. Raises ``UnsupportedMediaType`` and ``PayloadTooLarge``; counts while it reads."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise UnsupportedMediaType(f"The Content-Type must be {JSON}.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise PayloadTooLarge(f"The body may have at most {LARGEST_BODY} bytes.")
    return bytes(body)


def _id_of(request: Request) -> str:
    text = str(request.path_params["subject_request_id"])
    if not is_request_id(text):
        raise SubjectRequestNotFound
    return text


def _remember_form(request: Request, row: OpenDsrRequest) -> None:
    """What was made by OpenGDPR 1.0 is answered in both forms wherever it is looked at."""
    if row.legacy:
        request.scope["state"][LEGACY] = True


def _next_poll(row: OpenDsrRequest, now: datetime) -> Mapping[str, str]:
    if Status(row.status) in FINAL:
        return {}
    held_s = (row.hold_until - now).total_seconds() if row.status == Status.PENDING else 0
    return {"Retry-After": str(int(min(max(held_s, _POLL_S), _LONGEST_POLL_S)))}
