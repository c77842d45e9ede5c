"""``python -m cli.schema``: do the migrations build the schema that the code's tables describe?

Runs them on the database that the settings name and compares. For developers; ``make check`` calls it.
"""

import sys

from alembic import command
from alembic.util import CommandError

from cli import environment
from cli.output import Failed, console, show_failure
from core.platform import embedded
from core.platform.database import open_engine
from core.platform.settings import Settings


def compare(settings: Settings) -> None:
    """Migrate, then compare. Raises ``Failed`` naming what a migration lacks."""
    embedded.migrate(settings)
    assert settings.database.url is not None  # noqa: S101  # resolved
    engine = open_engine(settings.database.url.get_secret_value(), pool_size=1)
    try:
        with engine.connect() as connection:
            config = embedded.migrations_config()
            config.attributes["connection"] = connection
            command.check(config)
    except CommandError as error:
        raise Failed(str(error)) from None
    finally:
        engine.dispose()


if __name__ == "__main__":
    try:
        compare(environment.resolved())
    except Failed as failed:
        show_failure(str(failed))
        sys.exit(1)
    console.print("The migrations build what the tables describe.")
