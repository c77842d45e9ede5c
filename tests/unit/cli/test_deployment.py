"""The files that people deploy with: complete, without default secrets, and hardened."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.configuration import environment_file, markdown_table, variables

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
ONE_SHOT = {"migrate"}
SECRET_NAME = re.compile(r"PASSWORD|SECRET|ACCESS_KEY")


def _environment(service: dict[str, Any]) -> dict[str, str]:
    return service.get("environment", {})


def _variables_of(text: str) -> dict[str, str]:
    """Names that are substituted, with what follows each: ``:?…`` (required), ``:-…`` (default) or nothing."""
    return dict(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)([^}]*)\}", text))


def test_every_part_of_the_service_is_there() -> None:
    assert set(SERVICES) == {"postgres", "redis", "s3", "migrate", "api", "loops", "worker-cpu", "worker-gpu"}
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    devices = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOT))
def test_what_keeps_running_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_what_runs_once_is_waited_for_and_not_restarted() -> None:
    assert SERVICES["migrate"]["restart"] == "no"
    for name in ("api", "loops", "worker-cpu", "worker-gpu"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_service_has_privileges_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    if "build" not in service:
        assert not service["user"].startswith(("0", "root"))
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_secrets_have_no_default_and_stand_empty_in_the_example() -> None:
    found = _variables_of(COMPOSE)
    secrets = {name for name in found if SECRET_NAME.search(name)}
    assert secrets >= {"UNLEARN_SECRET", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "S3_SECRET_ACCESS_KEY"}
    assert all(found[name].startswith(":?") for name in secrets)
    for name in secrets:
        assert re.search(rf"^{name}=$", EXAMPLE, re.MULTILINE), f"{name} is missing from .env.example or has a value"


def test_no_secret_is_written_into_the_compose_file() -> None:
    for service in SERVICES.values():
        for name, value in _environment(service).items():
            if SECRET_NAME.search(name) or "://" in value:
                bare = re.sub(r"(?<!\$)\$\{[^}]*\}", "", value)
                assert not re.search(r"://[^/@]*[^:/@]@", bare.replace("unlearn:@", "")), f"{name} holds a password"
                if SECRET_NAME.search(name):
                    assert bare == "", f"{name} holds a value"


def test_every_substituted_variable_is_in_the_example() -> None:
    missing = [name for name in _variables_of(COMPOSE) if not re.search(rf"^#?{name}=", EXAMPLE, re.MULTILINE)]
    assert missing == []


def test_named_volumes_are_declared_and_used() -> None:
    mounted = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert mounted == set(yaml.safe_load(COMPOSE)["volumes"])


def test_settings_given_to_services_exist() -> None:
    known = {variable.name for variable in variables()}
    given = {name for service in SERVICES.values() for name in _environment(service) if name.startswith("UNLEARN_")}
    assert given <= known


def test_the_example_lists_every_setting() -> None:
    assert EXAMPLE.endswith(environment_file() + "\n"), "python -m cli.configuration --env prints what must stand there"


def test_the_documentation_lists_every_setting() -> None:
    documented = (ROOT / "docs" / "configuration.md").read_text()
    assert markdown_table() in documented, "python -m cli.configuration prints what must stand there"


def test_images_run_without_privileges_and_the_web_image_gets_no_torch() -> None:
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    named = {re.search(r" AS (\S+)", stage.splitlines()[0]).group(1): stage for stage in stages}  # pyright: ignore[reportOptionalMemberAccess]
    assert "USER 10001:10001" in named["runtime"]
    for target in ("web", "worker"):
        assert named[target].startswith("runtime AS ")
        assert "USER" not in named[target]
    assert "[worker," in named["build-worker"]
    assert "[worker]" not in named["build-web"]


def test_what_the_images_copy_is_in_the_build_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for source in (name for line in copied for name in line.split()):
        assert f"!{source.replace('[k]', 'k')}" in ignored


def test_the_command_line_starts_without_torch_and_matplotlib() -> None:
    script = "import sys, cli.main; sys.exit(any(name in sys.modules for name in ('torch', 'sklearn', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
