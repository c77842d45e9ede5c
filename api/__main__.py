"""``python -m api``: the web process, configured by the environment."""

import uvicorn

from api.app import create_app
from core.platform import logging
from core.platform.embedded import resolve
from core.platform.settings import Settings
from core.platform.tracing import open_tracing


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; calls under way may end first. ``settings`` must leave nothing open."""
    logging.configure(settings)
    end_tracing = open_tracing(settings, process="api")
    uvicorn.run(
        create_app(settings),
        host=settings.api.host,
        port=settings.api.port,
        access_log=False,  # ours has the route, the request id, and no query strings
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=25,
    )
    end_tracing()


if __name__ == "__main__":
    serve(resolve(Settings()))
