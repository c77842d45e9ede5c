"""Creating POSTs that may be repeated with an ``Idempotency-Key``."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Final, TypeVar

from fastapi import Depends, Header, Request
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.deps import Known, Tx
from api.errors import answer as problem
from api.errors import status_of
from core.access.idempotency import Answer, BadIdempotencyKey, Call, IdempotencyKeyRequired, begin, remember
from core.platform.clock import Clock
from core.platform.errors import DomainError
from core.platform.secrets import Keyring

Out = TypeVar("Out", bound=BaseModel)

_REPLAYED: Final = "Idempotent-Replayed"
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]{1,255}")
_KEPT_HEADERS: Final = frozenset({"content-type", "location", "retry-after", "preference-applied"})


class Idempotency:
    """Does a creating call once per key; without a key, simply does it."""

    def __init__(self, request: Request, tx: Session, keyring: Keyring, clock: Clock, call: Call | None) -> None:
        """``call`` is None when the caller sent no key."""
        self._request = request
        self._tx = tx
        self._keyring = keyring
        self._clock = clock
        self._call = call

    def __call__(
        self, status: int, make: Callable[[], Out], headers: Callable[[Out], Mapping[str, str]] | None = None
    ) -> Response:
        """The answer to the call: the stored one, or that of ``make``, which is then stored in the same transaction.

        ``make`` runs in a savepoint: when it raises a ``DomainError`` that will not pass by waiting (4xx), its writes
        are undone and the refusal is stored. Other errors go on, and store nothing.
        It is committed: the thread is here, and another turn of one would cost as much as some of the statements.
        Raises ``StillRunning`` and ``KeyReused``.
        """
        reply = self._answer(status, make, headers)
        self._tx.commit()
        return reply

    def _answer(
        self, status: int, make: Callable[[], Out], headers: Callable[[Out], Mapping[str, str]] | None
    ) -> Response:
        if self._call is None:
            return self._made(status, make, headers)
        before = begin(self._tx, self._call, keyring=self._keyring, at=self._clock())
        if before is not None:
            return Response(before.body, before.status, {**before.headers, _REPLAYED: "true"})
        try:
            with self._tx.begin_nested():
                reply = self._made(status, make, headers)
        except DomainError as error:
            if not _final(error):
                raise
            reply = problem(self._request, error)
        kept = {name: value for name, value in reply.headers.items() if name in _KEPT_HEADERS}
        stored = Answer(reply.status_code, kept, bytes(reply.body))
        remember(self._tx, self._call, stored, keyring=self._keyring, at=self._clock())
        return reply

    def _made(
        self, status: int, make: Callable[[], Out], headers: Callable[[Out], Mapping[str, str]] | None
    ) -> Response:
        out = make()
        said = dict(headers(out)) if headers else {}
        return Response(out.model_dump_json(by_alias=True), status, said, media_type="application/json")


async def idempotency(
    request: Request,
    tx: Tx,
    caller: Known,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Repeat the call with the same key and body and get the first answer again, for 24 hours.",
            examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
        ),
    ] = None,
) -> Idempotency:
    """The ``Once`` of this request. Raises ``BadIdempotencyKey`` and ``IdempotencyKeyRequired``."""
    state = request.app.state
    clock: Clock = state.clock
    keyring: Keyring = state.keyring
    if key is None and state.settings.api.require_idempotency_key:
        raise IdempotencyKeyRequired("Send an Idempotency-Key with every call that creates something.")
    if key is None:
        return Idempotency(request, tx, keyring, clock, None)
    body = await request.body()
    call = Call(caller.workspace_id, request.method, request.url.path, read_key(key), body)
    return Idempotency(request, tx, keyring, clock, call)


def replay_of(reply: Response) -> Mapping[str, str]:
    """What says that ``reply`` had been given before, for an answer that takes its place."""
    return {name: value for name, value in reply.headers.items() if name == _REPLAYED.lower()}


def read_key(header: str) -> str:
    """The key, with or without the quotes that the draft asks for. Raises ``BadIdempotencyKey``."""
    text = header.strip()
    quoted = _QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if not _PRINTABLE.fullmatch(key) or (not quoted and '"' in key):
        raise BadIdempotencyKey("An Idempotency-Key is 1 to 255 printable ASCII characters, quoted or not.")
    return key


def _final(error: DomainError) -> bool:
    status = status_of(type(error))
    return error.retry_after_s is None and 400 <= status < 500 and status not in (401, 403, 429)


Once = Annotated[Idempotency, Depends(idempotency)]
