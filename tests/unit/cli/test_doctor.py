"""What the doctor says of parts that can be judged without a server."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import doctor
from cli.configuration import variables
from cli.main import app
from core.platform.settings import Settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in variables():
        monkeypatch.delenv(variable.name, raising=False)


def test_a_halfway_configuration_is_the_only_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNLEARN_DATABASE__URL", "postgresql://h/d")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "UNLEARN_SECRET and UNLEARN_BROKER__URL and UNLEARN_STORE__URL must be set too" in result.stdout


def test_a_source_root_that_is_no_folder_is_wrong(tmp_path: Path) -> None:
    roots = [f"file://{tmp_path}/there/{{workspace}}/", "s3://bucket/"]
    settings = Settings.model_validate({"data_dir": tmp_path, "sources": {"roots": roots}})
    finding = doctor._sources(settings)  # pyright: ignore[reportPrivateUsage]
    assert finding.state == "wrong"
    assert finding.words == f"not a folder: {roots[0]}"
    (tmp_path / "there").mkdir()
    assert doctor._sources(settings).state == "ok"  # pyright: ignore[reportPrivateUsage]


def test_a_secret_that_others_can_read_is_wrong(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "secret": "0123456789-0123456789-0123456789-x"})
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o644)
    finding = doctor._secret(settings)  # pyright: ignore[reportPrivateUsage]
    assert (finding.state, finding.advice) == ("wrong", f"chmod 600 {tmp_path}/secret")


def test_a_cuda_device_that_is_not_there_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = "import json; print(json.dumps({'torch': '2.13.0', 'cuda': []}))"
    monkeypatch.setattr(doctor, "_DEVICE_PROBE", probe)
    settings = Settings.model_validate({"data_dir": tmp_path, "worker": {"device": "cuda:0"}})
    finding = doctor._device(settings)  # pyright: ignore[reportPrivateUsage]
    assert finding.state == "wrong"
    assert "sees no CUDA device" in finding.words
