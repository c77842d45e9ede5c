"""Which records a command is about: the selectors that deletion requests and assessments share."""

import json
from pathlib import Path
from typing import Any

from cli.output import Failed


def selection(
    *,
    dataset: str | None,
    record: list[str] | None,
    records_file: Path | None,
    subject: list[str] | None,
    identity: list[str] | None,
) -> dict[str, Any]:
    """The selectors as the API takes them; each identity given counts, several of one type included."""
    return {
        "dataset": dataset,
        "record_ids": [*(record or []), *(_lines(records_file) if records_file else [])],
        "subject_ids": subject,
        "identities": [{"type": kind, "value": value} for kind, value in split_pairs(identity or [], "--identity")],
    }


def split_pairs(items: list[str], option: str) -> list[tuple[str, str]]:
    """``["a=b"]`` as ``[("a", "b")]``. Raises ``Failed`` naming the option when there is no equals sign."""
    split = [item.partition("=") for item in items]
    for item, (left, _, right) in zip(items, split, strict=True):
        if not left or not right:
            raise Failed(f"{option} {json.dumps(item)}: write it as name=value")
    return [(left, right) for left, _, right in split]


def pairs(items: list[str], option: str) -> dict[str, str]:
    """``["a=b"]`` as ``{"a": "b"}``. Raises ``Failed`` without an equals sign, or when a name is given twice."""
    split = split_pairs(items, option)
    names = [name for name, _ in split]
    for name in names:
        if names.count(name) > 1:
            raise Failed(f"{option} {name}: given more than once")
    return dict(split)


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except OSError as error:
        raise Failed(f"cannot read {path}: {error.strerror}") from None
