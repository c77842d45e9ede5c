"""A caller with a test key, and the loops that do the work of its sandbox."""

import functools
from typing import Any

from sqlalchemy import Engine

from core.access.service import (
    Credential,
    WorkspaceNotFound,
    authenticate,
    create_key,
    create_workspace,
    workspace_named,
)
from core.opendsr.profile import Profile
from core.platform.clock import utc_now
from core.platform.database import transaction
from core.sandbox.service import advance_clock
from core.webhooks.messages import fan_out
from tests.builders.web import Web, settings, web
from worker.loops import deadlines, opendsr, planner, relay, sandbox


@functools.cache
def site_on(engine: Engine) -> Web:
    """The application, which is costly to make and the same for all tests on one database."""
    return web(engine)


def new_test_key(engine: Engine, workspace: str = "acme") -> str:
    """A test key of the workspace, which is made if need be; its secret."""
    with transaction(engine) as tx:
        try:
            owner = workspace_named(tx, workspace)
        except WorkspaceNotFound:
            owner = create_workspace(tx, name=workspace, actor="cli", at=utc_now())
        made = create_key(tx, workspace_id=owner.id, name="test", scopes=["*"], mode="test", actor="cli", at=utc_now())
    return made.secret


class Sandbox:
    """A test key's view of the service, in which time passes when the test says so."""

    def __init__(self, site: Web, workspace: str = "acme") -> None:
        self.engine = site.engine
        secret = new_test_key(site.engine, workspace)
        self.caller = site.with_key(secret)
        with transaction(site.engine) as tx:
            self._me = authenticate(tx, Credential.of_text(secret), at=utc_now())

    def submit(self, **fields: Any) -> dict[str, Any]:
        answer = self.caller.post("/v1/deletion-requests", fields)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def person(self, email: str, **fields: Any) -> dict[str, Any]:
        return self.submit(identities=[{"type": "email", "value": email}], **fields)

    def read(self, request_id: str) -> dict[str, Any]:
        return self.caller.get(f"/v1/deletion-requests/{request_id}").json()

    def advance(self, seconds: int) -> None:
        """As a call does, but cheaper than one."""
        with transaction(self.engine) as tx:
            advance_clock(tx, caller=self._me, seconds=seconds, at=utc_now())

    def turn(self) -> None:
        """Let every loop find what is due now."""
        for loop in (
            lambda: planner.turn(self.engine),
            self._work,
            lambda: deadlines.turn(self.engine),
            lambda: opendsr.turn(self.engine, Profile.of(settings())),
            lambda: relay.turn_events(self.engine, fan_out) > 0,
        ):
            while loop():
                pass

    def settle(self) -> None:
        """A few seconds, in which everything ends that is not forced to take longer."""
        for _ in range(6):
            while self._work():
                pass
            self.advance(2)
        self.turn()

    def _work(self) -> bool:
        return sandbox.turn(self.engine, "mem://store/{}".format)
