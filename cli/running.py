"""Commands that run the service: ``migrate``, ``serve``, ``worker``, ``loops``, ``up``."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import sqlalchemy.exc
import typer

from cli import environment
from cli.output import Failed, console
from cli.processes import MODULES, Processes, stop_signals, wait_ready, watch
from core.platform import embedded
from core.platform.settings import Settings

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Home of everything embedded.")]
Host = Annotated[str | None, typer.Option("--host", help="Address the API listens on.")]
Port = Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Port the API listens on.")]


def migrate() -> None:
    """Bring the database to the newest schema. Processes that start together wait for each other."""
    apply_migrations(environment.resolved())
    console.print("The database has the newest schema.")


def serve(host: Host = None, port: Port = None) -> None:
    """Run the API alone."""
    settings = placed(environment.read(), host=host, port=port)
    check_port(settings)
    run(environment.resolved(settings), ["api"])


def worker() -> None:
    """Run one worker alone: it takes unlearning runs and supervises the process that holds the device."""
    run(environment.resolved(), ["worker"])


def loops() -> None:
    """Run the background loops alone: planner, outbox relay, senders, indexer, eraser, reaper, sweeper, OpenDSR."""
    run(environment.resolved(), ["loops"])


def up(data_dir: DataDir = None, host: Host = None, port: Port = None) -> None:
    """Run the whole service: API, loops and a worker, on whatever the settings name.

    What they do not name is embedded under the data directory. Ctrl-C stops everything; when one process ends by
    itself all others are stopped and the exit code is 1.
    """
    settings = placed(environment.read(), data_dir=data_dir, host=host, port=port)
    check_port(settings)
    settings = environment.resolved(settings)
    apply_migrations(settings)
    run(settings, list(MODULES), announce=True)


def run(settings: Settings, names: Sequence[str], *, announce: bool = False) -> None:
    """Run the named processes until a signal comes. Raises ``Failed`` when one of them ends by itself."""
    with stop_signals() as stop, Processes(settings, names) as processes:
        if announce and wait_ready(settings, processes, stop=stop):
            show_addresses(settings)
        watch(processes, stop=stop)
    embedded.release(settings.data_dir)


def placed(
    settings: Settings, *, data_dir: Path | None = None, host: str | None = None, port: int | None = None
) -> Settings:
    """``settings`` with what the command line said instead of what the environment said."""
    chosen = {"host": host or settings.api.host, "port": port or settings.api.port}
    return settings.model_copy(
        update={"data_dir": data_dir or settings.data_dir, "api": settings.api.model_copy(update=chosen)}
    )


def apply_migrations(settings: Settings) -> None:
    """Bring the database to the newest schema. Raises ``Failed`` when it does not answer or refuses."""
    try:
        embedded.migrate(settings)
    except sqlalchemy.exc.DBAPIError as error:
        raise Failed(f"the database refuses: {str(error.orig).strip()}") from None


def check_port(settings: Settings) -> None:
    """Raises ``Failed`` when the API could not listen where it should."""
    family = socket.AF_INET6 if ":" in settings.api.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.api.host, settings.api.port))
        except OSError as error:
            raise Failed(
                f"cannot listen on {settings.api.host}:{settings.api.port} ({error.strerror}); choose another --port"
            ) from None


def show_addresses(settings: Settings) -> None:
    """Where to find what, once it is there."""
    console.print(f"\n[bold green]The service is ready.[/]  API [bold]{settings.public_url}/v1[/]", soft_wrap=True)
    console.print(f"  documentation  {settings.public_url}/docs", soft_wrap=True)
    console.print(f"  readiness      {settings.public_url}/readyz", soft_wrap=True)
    console.print(f"  data           {settings.data_dir}", soft_wrap=True)
    home = "" if settings.data_dir == Path(".data").resolve() else f"UNLEARN_DATA_DIR={settings.data_dir} "
    console.print(f"  first key      {home}unlearn keys create --workspace NAME --scopes '*'", soft_wrap=True)
    console.print("Ctrl-C stops it.\n")
