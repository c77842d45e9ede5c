"""The Celery application: how doorbells travel. Work and results never do; Postgres holds both."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from celery import Celery

from core.platform.settings import Settings

QUEUE = "runs"


def make_app(settings: Settings) -> Celery:
    """The application on ``settings.broker.url``; ``filesystem:///folder`` (or none at all) is the embedded broker.

    Messages are acknowledged when they arrive: a doorbell that is lost only delays, because workers also look for
    themselves. So there is nothing to redeliver, and a long run is not taken for a lost one.
    """
    app = Celery("unlearn")
    app.conf.update(
        task_default_queue=QUEUE,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=False,
        task_ignore_result=True,
        result_backend=None,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_timeout=3,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        enable_utc=True,
        **_broker(settings),
    )
    return app


def _broker(settings: Settings) -> dict[str, Any]:
    url = settings.broker.url.get_secret_value() if settings.broker.url is not None else "filesystem://"
    if url.startswith("filesystem://"):
        return _folder_broker(Path(unquote(url.removeprefix("filesystem://")) or settings.data_dir / "broker"))
    options = {
        "socket_connect_timeout": 3,
        "socket_timeout": 30,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }
    # Without prefetch a second run's doorbell stays in the queue for an idle worker.
    return {"broker_url": url, "broker_transport_options": options, "worker_disable_prefetch": url.startswith("redis")}


def _folder_broker(folder: Path) -> dict[str, Any]:
    messages, control = folder / "messages", folder / "control"
    for path in (folder, messages, control):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    options = {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
        "store_processed": False,
    }
    return {"broker_url": "filesystem://", "broker_transport_options": options}
