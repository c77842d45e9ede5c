"""Every setting with its variable, as data and as text.

``python -m cli.configuration`` prints the table of ``docs/configuration.md``, with ``--env`` the settings part of
``.env.example``.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from core.platform.settings import Settings

_PREFIX: Final = "UNLEARN_"
_NAMES: Final[Mapping[Any, str]] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "secret",
    tuple: "JSON list",
    dict: "JSON object",
}


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting: the environment variable, what it holds, its default and what it is for."""

    name: str
    kind: str
    default: str | None
    """As it would be written into the environment; None: unset."""
    about: str


def variables() -> list[Variable]:
    """All settings, in the order of ``Settings``."""
    return list(_walk(Settings, _PREFIX))


def to_environment(settings: Settings) -> dict[str, str]:
    """The variables that make another process read exactly ``settings``; secrets in clear: hand it to nobody."""
    return dict(_written(settings, _PREFIX))


def markdown_table() -> str:
    """All settings as a Markdown table."""
    rows = [f"| `{v.name}` | {v.kind} | {_cell(v.default)} | {v.about.replace('|', '/')} |" for v in variables()]
    return "\n".join(["| variable | holds | default | for |", "|---|---|---|---|", *rows])


def environment_file() -> str:
    """All settings as commented lines of an environment file."""
    lines = (f"# {v.kind}{': ' if v.about else ''}{v.about}\n#{v.name}={v.default or ''}" for v in variables())
    return "\n".join(lines).replace("`", "")


def _cell(default: str | None) -> str:
    return "unset" if default is None else f"`{default}`"


def _walk(model: type[BaseModel], prefix: str) -> Iterator[Variable]:
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _walk(field.annotation, f"{variable}__")
        else:
            yield Variable(variable, _kind(field.annotation), _default(field), field.description or "")


def _default(field: FieldInfo) -> str | None:
    value = field.get_default(call_default_factory=True)
    return None if value is None else _text(value)


def _kind(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return _kind(next(part for part in get_args(annotation) if part is not type(None)))
    if origin is tuple and SecretStr in get_args(annotation):
        return "JSON list of secrets"
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(annotation))
    if annotation is not str and getattr(annotation, "__name__", "").endswith("Url"):
        return "URL"
    return _NAMES[origin or annotation]


def _written(section: BaseModel, prefix: str) -> Iterator[tuple[str, str]]:
    for name in type(section).model_fields:
        value, variable = getattr(section, name), f"{prefix}{name.upper()}"
        if isinstance(value, BaseModel):
            yield from _written(value, f"{variable}__")
        elif value is not None:
            yield variable, _text(value)


def _text(value: Any) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case bool():
            return "true" if value else "false"
        case tuple() | list():
            return json.dumps([_text(item) if isinstance(item, SecretStr) else item for item in value])
        case dict():
            return json.dumps(value)
        case _:
            return str(value)


if __name__ == "__main__":
    sys.stdout.write((environment_file() if "--env" in sys.argv[1:] else markdown_table()) + "\n")
