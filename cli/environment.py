"""Settings for a command: read from the environment, with failures in words that name the variable."""

from pydantic import ValidationError

from cli.output import Failed
from core.platform import embedded
from core.platform.settings import Settings


def read() -> Settings:
    """The settings as the environment has them. Raises ``Failed`` naming each variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        raise Failed("\n".join(_words(problem["loc"], problem["msg"]) for problem in error.errors())) from None


def resolved(settings: Settings | None = None) -> Settings:
    """Settings with nothing left open; starts or joins the embedded database. Raises ``Failed``."""
    try:
        return embedded.resolve(settings or read())
    except embedded.Misconfigured as error:
        raise Failed(str(error)) from None


def _words(place: tuple[str | int, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    if message.startswith("UNLEARN_"):
        return message
    parts = [str(part).upper() for part in place if isinstance(part, str)]
    return f"UNLEARN_{'__'.join(parts)}: {message}"
