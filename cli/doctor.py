"""``unlearn doctor``: is everything there that the service needs, and if not, what to do about it."""

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

import redis
import sqlalchemy.exc
import typer
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from cli import environment
from cli.output import Failed, console, print_json
from cli.secrets import Standing, standing
from core.platform import embedded
from core.platform.database import open_engine
from core.platform.errors import DomainError
from core.platform.ids import new_id
from core.platform.objects import open_store
from core.platform.secrets import Keyring
from core.platform.settings import Settings

State = Literal["ok", "warning", "wrong"]

_DEVICE_PROBE: Final = (
    "import json, torch; cuda = torch.cuda.is_available(); "
    "print(json.dumps({'torch': torch.__version__, 'cuda': [torch.cuda.get_device_name(i) "
    "for i in range(torch.cuda.device_count())] if cuda else []}))"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one part, and what to do when it is not as it must be."""

    part: str
    state: State
    words: str
    advice: str = ""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False) -> None:
    """Check database, broker, object store, device, secrets and source folders; exit code 1 when something is wrong."""
    findings = examine(environment.read())
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _print(finding)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def examine(settings: Settings) -> list[Finding]:
    """A finding for every part. Nothing is changed beyond what starting the embedded parts changes."""
    try:
        resolved = environment.resolved(settings)
    except Failed as failed:
        return [Finding("configuration", "wrong", str(failed), "Set what is named, or see docs/configuration.md.")]
    where = "embedded" if settings.database.url is None else "named by UNLEARN_DATABASE__URL"
    configuration = Finding("configuration", "ok", f"complete; the database is {where}")
    checks: Sequence[Callable[[Settings], Finding]] = (_secret, _database, _kept, _broker, _store, _device, _sources)
    return [configuration, *(check(resolved) for check in checks)]


def _secret(settings: Settings) -> Finding:
    if settings.secret is None:
        return Finding("secret", "wrong", "UNLEARN_SECRET is not set", "Generate one: openssl rand -base64 48")
    file = settings.data_dir / "secret"
    if file.exists() and file.stat().st_mode & 0o077:
        return Finding("secret", "wrong", f"{file} can be read by others", f"chmod 600 {file}")
    return Finding("secret", "ok", "set")


def _database(settings: Settings) -> Finding:
    assert settings.database.url is not None  # noqa: S101  # resolved
    engine = open_engine(settings.database.url.get_secret_value(), pool_size=1)
    try:
        with engine.connect() as connection:
            version = connection.execute(text("show server_version")).scalar_one()
            there = set(MigrationContext.configure(connection).get_current_heads())
    except sqlalchemy.exc.DBAPIError as error:
        words = str(error.orig).strip().splitlines()[0]
        return Finding(
            "database", "wrong", words, "Check that the server runs and that UNLEARN_DATABASE__URL is right."
        )
    finally:
        engine.dispose()
    wanted = set(ScriptDirectory.from_config(embedded.migrations_config()).get_heads())
    if there != wanted:
        have = ", ".join(sorted(there)) or "no schema"
        return Finding(
            "database", "wrong", f"has {have}, this code needs {', '.join(sorted(wanted))}", "unlearn migrate"
        )
    return Finding("database", "ok", f"PostgreSQL {version}, schema {', '.join(sorted(there))}")


def _kept(settings: Settings) -> Finding:
    """Whether all that is kept can be opened, and whether previous secrets are still needed for it."""
    assert settings.database.url is not None  # noqa: S101  # resolved
    if settings.secret is None:
        return Finding("what is kept", "warning", "cannot be judged without UNLEARN_SECRET")
    engine = open_engine(settings.database.url.get_secret_value(), pool_size=1)
    try:
        return _judged(standing(engine, Keyring.of(settings)), bool(settings.previous_secrets))
    except sqlalchemy.exc.DBAPIError:
        return Finding("what is kept", "warning", "cannot be judged without the database and its newest schema")
    finally:
        engine.dispose()


def _judged(found: Standing, has_previous: bool) -> Finding:
    part = "what is kept"
    if found.lost:
        words = f"sealed under a secret that is not configured: {_counts(found.lost)}"
        return Finding(part, "wrong", words, "Name the secret in UNLEARN_PREVIOUS_SECRETS, then rotate.")
    if not has_previous:
        return Finding(part, "ok", "under UNLEARN_SECRET")
    if found.values or found.datasets:
        datasets = f"digests of {len(found.datasets)} data sets" if found.datasets else ""
        words = f"a previous secret is still needed: {', '.join(filter(None, (_counts(found.values), datasets)))}"
        return Finding(part, "warning", words, "unlearn keys rotate-secret")
    if found.passing:
        words = f"a previous secret is still needed for {found.passing} answers that may be asked for again"
        return Finding(part, "warning", words, "They go by themselves within a day.")
    return Finding(part, "ok", "all under UNLEARN_SECRET; UNLEARN_PREVIOUS_SECRETS can be unset in every process")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of {name}" for name, count in counts.items())


def _broker(settings: Settings) -> Finding:
    assert settings.broker.url is not None  # noqa: S101  # resolved
    url = settings.broker.url.get_secret_value()
    if url.startswith("filesystem://"):
        return _broker_folder(Path(unquote(url.removeprefix("filesystem://"))))
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
            version = client.info("server")["redis_version"]
    except (redis.RedisError, ValueError) as error:
        return Finding("broker", "wrong", str(error), "Check that Redis runs and that UNLEARN_BROKER__URL is right.")
    return Finding("broker", "ok", f"Redis {version}")


def _broker_folder(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Finding("broker", "ok", f"folder {folder}")
    except OSError as error:
        return Finding("broker", "wrong", f"cannot write to {folder}: {error.strerror}", "Make the folder writable.")


def _store(settings: Settings) -> Finding:
    content = new_id("evt").encode()
    try:
        store = open_store(settings)
        store.check()
        place = store.uri(f"doctor/{content.decode()}")
        store.put_bytes(place, content)
        try:
            with store.open(place) as stream:
                same = stream.read() == content
        finally:
            store.delete([place])
    except (DomainError, OSError, ValueError) as error:
        advice = "Check UNLEARN_STORE__URL, its endpoint and its credentials, and that the bucket exists."
        return Finding("object store", "wrong", str(error), advice)
    if not same:
        return Finding("object store", "wrong", "what was read back is not what was written", "Replace the store.")
    return Finding("object store", "ok", f"{store.root}: written, read back and deleted")


def _device(settings: Settings) -> Finding:
    if importlib.util.find_spec("torch") is None:
        words = "torch is not installed: this machine can run the API and the loops, not a worker"
        return Finding("device", "warning", words, "For a worker: pip install 'unlearning-service[worker]'")
    probe = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _DEVICE_PROBE], capture_output=True, text=True, timeout=120, check=False
    )
    if probe.returncode != 0:
        words = probe.stderr.strip().splitlines()[-1:] or ["torch does not load"]
        return Finding("device", "wrong", words[0], "Reinstall torch, or update the driver.")
    found = json.loads(probe.stdout)
    if settings.worker.device.startswith("cuda") and not found["cuda"]:
        words = f"UNLEARN_WORKER__DEVICE is {settings.worker.device}, and torch {found['torch']} sees no CUDA device"
        return Finding("device", "wrong", words, "Install the driver and a CUDA build of torch, or set it to auto.")
    devices = ", ".join(found["cuda"]) or "CPU only"
    return Finding("device", "ok", f"torch {found['torch']}: {devices}")


def _sources(settings: Settings) -> Finding:
    roots = settings.sources.roots
    if not roots:
        return Finding("sources", "ok", "no root is set: data sets and models come by upload only")
    missing = [root for root in roots if root.startswith("file:") and not _root_folder(root).is_dir()]
    if missing:
        words = f"not a folder: {', '.join(missing)}"
        return Finding("sources", "wrong", words, "Create it, or correct UNLEARN_SOURCES__ROOTS.")
    return Finding("sources", "ok", ", ".join(roots))


def _root_folder(root: str) -> Path:
    path = Path(unquote(urlsplit(root.split("{workspace}")[0]).path))
    return path if root.endswith("/") or "{workspace}" not in root else path.parent


def _print(finding: Finding) -> None:
    mark = {"ok": "[green]ok     [/]", "warning": "[yellow]warning[/]", "wrong": "[bold red]wrong  [/]"}[finding.state]
    console.print(f"{mark}  {finding.part:<14}", end="")
    console.print(finding.words, markup=False, soft_wrap=True)
    if finding.advice:
        console.print(f"                         {finding.advice}", style="dim", markup=False, soft_wrap=True)
