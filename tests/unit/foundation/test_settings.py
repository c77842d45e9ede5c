"""Configuration is read once, checked at start, and names the variable that is wrong."""

import pytest
from pydantic import ValidationError

from core.platform.settings import Settings


def test_nested_fields_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNLEARN_API__PORT", "9001")
    monkeypatch.setenv("UNLEARN_WEBHOOKS__SCHEDULE_S", "[0, 1]")
    settings = Settings()
    assert settings.public_url == "http://127.0.0.1:9001"
    assert settings.webhooks.schedule_s == (0, 1)


@pytest.mark.parametrize("secret", ["short", "changeme"])
def test_a_weak_secret_is_refused(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("UNLEARN_SECRET", secret)
    with pytest.raises(ValidationError, match="UNLEARN_SECRET"):
        Settings()


def test_a_lease_outlives_a_missed_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNLEARN_WORKER__HEARTBEAT_S", "40")
    with pytest.raises(ValidationError, match="UNLEARN_WORKER__HEARTBEAT_S"):
        Settings()


def test_secrets_do_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNLEARN_DATABASE__URL", "postgresql://user:hunter2@host/name")
    assert "hunter2" not in repr(Settings())
