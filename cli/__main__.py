"""``python -m cli`` is ``unlearn``."""

from cli.main import app

app()
