from pathlib import Path

import pytest
from pydantic import SecretStr

from cli import environment
from cli.configuration import to_environment, variables
from cli.output import Failed
from core.platform.settings import (
    ApiSettings,
    DatabaseSettings,
    Settings,
    SourceSettings,
    StoreSettings,
    WebhookSettings,
)

SECRET = "0123456789-0123456789-0123456789-x"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in variables():
        monkeypatch.delenv(variable.name, raising=False)


def test_another_process_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        data_dir=Path("/data"),
        secret=SecretStr(SECRET),
        previous_secrets=(SecretStr("the-one-before-that-with-32-letters"),),
        log_json=True,
        database=DatabaseSettings(url=SecretStr("postgresql://u:p@h/d?host=/a b"), pool_size=3),
        store=StoreSettings.model_validate({"url": "s3://bucket/prefix/", "secret_access_key": "x"}),
        api=ApiSettings.model_validate({"public_url": "https://unlearn.example/base"}),
        sources=SourceSettings(roots=("s3://training/{workspace}/", "s3://other/")),
        webhooks=WebhookSettings(schedule_s=(0, 1.5), allow_http=True),
    )
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert environment.read() == settings


def test_every_setting_is_described_once() -> None:
    names = [variable.name for variable in variables()]
    assert len(names) == len(set(names))
    assert {"UNLEARN_DATA_DIR", "UNLEARN_SECRET", "UNLEARN_DATABASE__URL", "UNLEARN_WEBHOOKS__SCHEDULE_S"} <= set(names)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("UNLEARN_API__PORT", "http", "UNLEARN_API__PORT: "),
        ("UNLEARN_SECRET", "short", "UNLEARN_SECRET must be at least 32 random characters"),
        (
            "UNLEARN_PREVIOUS_SECRETS",
            '["short"]',
            "UNLEARN_PREVIOUS_SECRETS must each be at least 32",
        ),
        ("UNLEARN_WORKER__HEARTBEAT_S", "50", "UNLEARN_WORKER__HEARTBEAT_S must be at most half of"),
    ],
)
def test_a_wrong_value_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Failed, match=words):
        environment.read()
