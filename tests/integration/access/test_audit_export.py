"""The exported audit log is verified by the command line alone."""

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner, Result

from cli.main import app
from tests.builders.web import web

pytestmark = pytest.mark.integration
PATH = "/v1/audit-events/export"


def test_an_export_holds_offline_until_it_or_the_log_is_touched(
    emptied: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.audit._LINES_AT_ONCE", 2)
    anyone = web(emptied)
    caller = anyone.customer("acme")
    anyone.customer("rival")
    for days in range(1, 5):
        caller.put("/v1/policies/strict", {"retention_days": days})
    exported, shortened, keys = tmp_path / "log.ndjson", tmp_path / "short.ndjson", tmp_path / "jwks.json"
    answer = caller.get(PATH)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    exported.write_bytes(answer.content)
    keys.write_bytes(anyone.get("/.well-known/jwks.json").content)

    def verify(file: Path, *more: str) -> Result:
        return CliRunner().invoke(app, ["audit", "verify", str(file), "--jwks", str(keys), *more], terminal_width=200)

    told = verify(exported, "--json", "--issuer", "http://127.0.0.1:8000")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["lines"] == 6
    lines = answer.text.splitlines(keepends=True)
    (tmp_path / "changed").write_text("".join([*lines[:3], lines[3].replace("strict", "lax"), *lines[4:]]))
    refused = verify(tmp_path / "changed")
    assert (refused.exit_code, "line 4" in refused.stderr) == (1, True), refused.stderr

    with emptied.begin() as connection:
        connection.execute(text("set local session_replication_role = replica"))
        connection.execute(text("delete from audit_events where sequence = 6"))
    shortened.write_bytes(caller.get(PATH).content)
    assert verify(shortened).exit_code == 0, "by itself it looks whole"
    assert "ends before the one that was exported earlier" in verify(shortened, "--earlier", str(exported)).stderr
