"""Commands that work on the database and the other servers themselves."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner, Result

from cli import doctor, health
from cli.configuration import variables
from cli.main import app
from cli.output import Failed
from core.access import service
from core.platform.clock import utc_now
from core.platform.database import transaction
from core.platform.settings import Settings, StoreSettings

pytestmark = pytest.mark.integration

SECRET = "0123456789-0123456789-0123456789-x"


@pytest.fixture
def settings(database_url: str, redis_url: str, s3: StoreSettings, tmp_path: Path) -> Settings:
    return Settings.model_validate({
        "data_dir": tmp_path, "secret": SECRET, "database": {"url": database_url}, "broker": {"url": redis_url},
        "store": s3,
    })  # fmt: skip


@pytest.fixture
def unlearn(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    for variable in variables():
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.setenv("UNLEARN_DATABASE__URL", database_url)
    monkeypatch.setenv("UNLEARN_SECRET", SECRET)
    monkeypatch.setenv("UNLEARN_BROKER__URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("UNLEARN_STORE__URL", "s3://bucket/")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), terminal_width=200)

    return run


def test_a_key_is_shown_once_and_opens_its_workspace(unlearn: Callable[..., Result], database: Engine) -> None:
    result = unlearn(
        "keys", "create", "--workspace", "acme", "--scopes", "runs:read, deletions:write", "--name", "fides", "--json"
    )
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["scopes"] == ["deletions:write", "runs:read"]
    with transaction(database) as tx:
        principal = service.authenticate(tx, service.Credential.of_text(shown["key"]), at=utc_now())
    assert (principal.workspace, principal.scopes) == ("acme", {"deletions:write", "runs:read"})

    listed = unlearn("keys", "list", "--workspace", "acme", "--json")
    assert [row["id"] for row in json.loads(listed.stdout)] == [shown["id"]]
    assert shown["key"] not in listed.output


def test_without_json_standard_output_holds_the_key_alone(unlearn: Callable[..., Result]) -> None:
    result = unlearn("keys", "create", "--workspace", "acme", "--scopes", "*")
    assert result.stdout.startswith("unl_live_")
    assert result.stdout.count("\n") == 1


def test_a_second_key_joins_the_workspace(unlearn: Callable[..., Result], database: Engine) -> None:
    for _ in range(2):
        assert unlearn("keys", "create", "--workspace", "acme", "--scopes", "*").exit_code == 0
    with database.connect() as connection:
        assert connection.execute(text("select count(*) from workspaces")).scalar_one() == 1
        assert connection.execute(text("select count(*) from api_keys")).scalar_one() == 2


def test_a_revoked_key_opens_nothing(unlearn: Callable[..., Result], database: Engine) -> None:
    key = json.loads(unlearn("keys", "create", "--workspace", "acme", "--scopes", "*", "--json").stdout)
    assert unlearn("keys", "revoke", key["id"], "--workspace", "acme").exit_code == 0
    with transaction(database) as tx, pytest.raises(service.Unauthenticated):
        service.authenticate(tx, service.Credential.of_text(key["key"]), at=utc_now())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "--workspace", "acme", "--scopes", "deletions:everything"], "/scopes/0: There is no such scope."),
        (["create", "--workspace", "Not A Slug", "--scopes", "*"], "/name"),
        (["list", "--workspace", "nobody"], "There is no workspace of that name."),
        (["revoke", "key_x", "--workspace", "nobody"], "There is no workspace of that name."),
    ],
)
def test_a_wrong_key_command_fails_in_words_and_leaves_nothing(
    unlearn: Callable[..., Result], database: Engine, arguments: list[str], words: str
) -> None:
    result = unlearn("keys", *arguments)
    assert result.exit_code == 1
    assert words in result.stderr
    with database.connect() as connection:
        assert connection.execute(text("select count(*) from workspaces")).scalar_one() == 0


def test_a_database_without_schema_is_told_in_words(
    unlearn: Callable[..., Result], server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNLEARN_DATABASE__URL", server_url)
    result = unlearn("keys", "list", "--workspace", "acme")
    assert result.exit_code == 1
    assert "unlearn migrate" in result.stderr


def _states(findings: list[doctor.Finding]) -> dict[str, str]:
    return {finding.part: finding.state for finding in findings}


def test_the_doctor_finds_nothing_wrong_with_real_parts(settings: Settings) -> None:
    findings = doctor.examine(settings)
    assert set(_states(findings).values()) == {"ok"}, findings
    assert {finding.part for finding in findings} == {
        "configuration", "secret", "database", "what is kept", "broker", "object store", "device", "sources",
    }  # fmt: skip


def test_the_doctor_names_what_does_not_answer(settings: Settings, server_url: str) -> None:
    away = Settings.model_validate({
        **settings.model_dump(),
        "database": {"url": "postgresql://nobody@127.0.0.1:1/none"},
        "broker": {"url": "redis://127.0.0.1:1/0"},
        "store": {**settings.store.model_dump(), "url": "s3://no-such-bucket/"},
    })  # fmt: skip
    findings = doctor.examine(away)
    states = _states(findings)
    assert [part for part, state in states.items() if state == "wrong"] == ["database", "broker", "object store"]
    assert all(finding.words and finding.advice for finding in findings if finding.state == "wrong")

    unmigrated = Settings.model_validate({**settings.model_dump(), "database": {"url": server_url}})
    database = next(finding for finding in doctor.examine(unmigrated) if finding.part == "database")
    assert (database.state, database.advice) == ("wrong", "unlearn migrate")


def test_loops_are_unwell_when_a_message_waits_too_long(settings: Settings, database: Engine) -> None:
    health.check_loops(settings)
    age = "insert into outbox (topic, name, payload, created_at) values ('task', 'x', '{}', now() - interval '%s')"
    with database.begin() as connection:
        connection.execute(text(age % "50 seconds"))
    health.check_loops(settings)
    with database.begin() as connection:
        connection.execute(text(age % "70 seconds"))
    with pytest.raises(Failed, match="1 messages have waited"):
        health.check_loops(settings)


def test_a_worker_that_is_not_there_does_not_answer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_PING_S", 0.2)
    with pytest.raises(Failed, match="does not answer"):
        health.check_worker(settings)
