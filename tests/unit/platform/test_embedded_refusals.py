"""Half-way configurations are refused before anything is started or written."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from core.platform import embedded
from core.platform.settings import Settings

SECRET = SecretStr("0123456789-0123456789-0123456789-x")
WHOLE: dict[str, Any] = {
    "secret": SECRET,
    "database": {"url": "postgresql://host/name"},
    "broker": {"url": "redis://host/0"},
    "store": {"url": "s3://bucket/"},
}


def _settings(data_dir: Path, **parts: Any) -> Settings:
    return Settings.model_validate({"data_dir": data_dir, **parts})


def test_settings_that_name_everything_come_back_as_they_are(tmp_path: Path) -> None:
    settings = _settings(tmp_path / "never-made", **WHOLE)
    assert embedded.resolve(settings) == settings
    assert not (tmp_path / "never-made").exists()


@pytest.mark.parametrize(
    ("lacking", "variable"),
    [("secret", "UNLEARN_SECRET"), ("broker", "UNLEARN_BROKER__URL"), ("store", "UNLEARN_STORE__URL")],
)
def test_whoever_names_a_database_names_the_rest(tmp_path: Path, lacking: str, variable: str) -> None:
    parts = {name: part for name, part in WHOLE.items() if name != lacking}
    with pytest.raises(embedded.Misconfigured, match=f"so {variable} must be set too"):
        embedded.resolve(_settings(tmp_path, **parts))
    assert list(tmp_path.iterdir()) == []


def test_half_of_a_credential_is_refused(tmp_path: Path) -> None:
    store = {"url": "s3://bucket/", "access_key_id": "id"}
    with pytest.raises(embedded.Misconfigured, match="UNLEARN_STORE__SECRET_ACCESS_KEY"):
        embedded.resolve(_settings(tmp_path, **{**WHOLE, "store": store}))


def test_a_lost_secret_is_not_replaced_by_another(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("18\n")
    with pytest.raises(embedded.Misconfigured, match="secret is gone"):
        embedded.resolve(_settings(tmp_path))
    assert not (tmp_path / "secret").exists()


def test_a_path_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    with pytest.raises(embedded.Misconfigured, match="too long for a Unix socket"):
        embedded.resolve(_settings(tmp_path / ("long" * 25)))
