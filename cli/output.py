"""What people and programs read from the command line: tables, JSON, and failures in plain words."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

Output = Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default: standard output.")]

console = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


class Failed(Exception):
    """The command cannot do what it was asked. The message is shown as it is; the exit code is 1."""


def print_json(value: object) -> None:
    """``value`` as JSON on standard output, one document, without colour or wrapping."""
    console.out(json.dumps(value, indent=2, ensure_ascii=False), highlight=False)


def write_text(text: str, output: Path | None) -> None:
    """``text`` into the file, or on standard output without one. Raises ``Failed`` if it cannot be written."""
    if output is None:
        console.out(text, highlight=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failed(f"cannot write {output}: {error.strerror}") from None


def show_failure(words: str) -> None:
    """A failure on standard error."""
    stderr.print("[bold red]error:[/] ", end="")
    stderr.print(words, markup=False, soft_wrap=True)


def print_fields(fields: Mapping[str, Any]) -> None:
    """One object: a name and a value a line, without what is empty."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value not in (None, [], {}, ""):
            table.add_row(name.replace("_", " "), _words(value))
    console.print(table)


def print_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Objects of one kind as a table of ``columns``."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_words(row.get(column)) for column in columns))
    console.print(table)


def _words(value: Any) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case str() | int():
            return str(value).replace("[", r"\[")
        case list() if all(isinstance(item, str | int) for item in value):
            return ", ".join(str(item) for item in value).replace("[", r"\[")
        case dict() if not any(isinstance(item, dict | list) for item in value.values()):
            return ", ".join(f"{name} {_words(item)}" for name, item in value.items() if name != "url")
        case list() if all(isinstance(item, dict) for item in value):
            return "\n".join(_words(item) for item in value)
        case _:
            return json.dumps(value, ensure_ascii=False).replace("[", r"\[")
