"""``python -m worker``: one worker. It answers doorbells, looks for work by itself, and holds one run at a time."""

import threading
from collections.abc import Sequence
from functools import partial

import structlog
from celery import Celery
from celery.signals import worker_shutdown, worker_shutting_down
from prometheus_client import CollectorRegistry

from core.platform import embedded, logging
from core.platform.database import open_engine
from core.platform.objects import open_store
from core.platform.settings import Settings
from core.platform.tracing import open_tracing
from core.platform.workfolder import remove_leftovers
from worker import tasks
from worker.app import make_app
from worker.executor import Executor
from worker.metrics import RunMetrics, exposed
from worker.polling import keep_looking, look
from worker.supervisor import CHILD, Supervisor

log = structlog.get_logger()


def main(command: Sequence[str] = CHILD) -> None:
    """Work until SIGTERM; a run at work is then handed back, and its child ended, before the process ends.

    command: what is started for a run, with its work folder appended.
    """
    settings = embedded.resolve(Settings())
    logging.configure(settings)
    end_tracing = open_tracing(settings, process="worker")
    assert settings.database.url is not None  # noqa: S101
    url, lease_s = settings.database.url.get_secret_value(), settings.worker.lease_ttl_s
    engine = open_engine(url, pool_size=4, idle_limit_s=lease_s)
    store = open_store(settings)
    log.info("worker_started", leftovers_removed=remove_leftovers(settings.worker.work_dir))
    stopping = threading.Event()
    registry = CollectorRegistry()
    metrics = RunMetrics(registry)
    supervisor = Supervisor(engine, store, settings, stopping=stopping, command=command, metrics=metrics)
    executor = Executor(engine, store, settings, supervisor=supervisor, stopping=stopping)
    looking = threading.Thread(
        target=keep_looking,
        args=(executor.execute,),
        kwargs={"poll_s": settings.worker.poll_s, "stop": stopping},
        name="looking-for-work",
    )
    app = make_app(settings)
    tasks.register(app, partial(look, executor.execute))
    looking.start()
    try:
        with exposed(registry, host=settings.metrics_host, port=settings.worker.metrics_port):
            _serve(app, stopping, settings.log_level)
    finally:
        stopping.set()
        looking.join()
        executor.wait_idle()
        engine.dispose()
        end_tracing()
        log.info("worker_stopped")


def _serve(app: Celery, stopping: threading.Event, log_level: str) -> None:
    def stop(**_: object) -> None:
        stopping.set()

    worker_shutting_down.connect(stop, weak=False)
    worker_shutdown.connect(stop, weak=False)
    # Threads answer pings and cancels while a child computes; one, because a worker holds one run.
    arguments = ["--pool=threads", "--concurrency=1", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main(["worker", *arguments, f"--loglevel={log_level}"])


if __name__ == "__main__":
    main()
