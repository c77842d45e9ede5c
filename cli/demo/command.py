"""The command ``unlearn demo``: a stage of its own, always embedded, whatever the environment says."""

import os
import signal
import socket
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import typer

from cli import environment
from cli.demo.report import print_report
from cli.output import console
from cli.processes import MODULES, Processes, check_alive, stop_signals, wait_ready, watch
from cli.running import apply_migrations, check_port
from core.platform import embedded
from core.platform.settings import ApiSettings, LoopSettings, Settings, WebhookSettings, WorkerSettings

_LATER: Final = "http://127.0.0.1:8000/docs"


def demo(
    data_dir: Annotated[Path, typer.Option("--data-dir", help="Home of the demo's service.")] = Path(".data/demo"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service running until Ctrl-C.")] = False,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Default: a free one.")] = None,
) -> None:
    """See the whole service work: a model memorises digits, one writer asks to be forgotten, a new version appears.

    Everything runs on this machine, and nothing is left outside the data directory. The exit code is 1 if anything is
    not as it must be.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads would starve the other processes
    from cli.demo import story  # it loads torch, which takes seconds and is not there in the web image

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM, too, stops what runs
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unlearn-demo-")))
        customer = story.train(folder)
        settings = demo_settings(data_dir, port or free_port())
        check_port(settings)
        settings = environment.resolved(settings)
        stack.callback(embedded.release, settings.data_dir)
        apply_migrations(settings)
        logs = settings.data_dir / "logs"
        console.print(f"[bold]2[/]  The service starts: embedded PostgreSQL, logs in {logs}", soft_wrap=True)
        processes = stack.enter_context(Processes(settings, list(MODULES), logs=logs))
        wait_ready(settings, processes, stop=threading.Event())
        key = story.first_key(settings)
        docs = f"{settings.public_url}/docs" if keep else f"{_LATER}, after: make up (or: make demo ARGS=--keep)"
        print_report(story.play(settings, key, customer, folder, docs=docs, glance=lambda: check_alive(processes)))
        if keep:
            _keep(settings, processes, key.secret)


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def demo_settings(data_dir: Path, port: int) -> Settings:
    """Nothing from the environment: a demo must not touch a real database. It may call its own webhook receiver."""
    return Settings.model_construct(
        data_dir=data_dir,
        log_json=True,
        api=ApiSettings(host="127.0.0.1", port=port),
        worker=WorkerSettings(poll_s=1.0),
        loops=LoopSettings(poll_s=0.2),
        webhooks=WebhookSettings(allow_http=True, allow_networks=("127.0.0.0/8",)),
    )


def _keep(settings: Settings, processes: Processes, key: str) -> None:
    console.print(f"\nThe service goes on at [bold]{settings.public_url}[/] until Ctrl-C. Try:", soft_wrap=True)
    console.print(f"  export UNLEARN_URL={settings.public_url} UNLEARN_KEY={key}", soft_wrap=True)
    console.print("  unlearn requests list", soft_wrap=True)
    with stop_signals() as stop:
        watch(processes, stop=stop)
