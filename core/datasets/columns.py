"""The column map: which of a file's columns hold what we need."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from core.datasets.errors import InvalidColumns
from core.platform.errors import Problem

IMAGE_TASK: Final = "image-classification"
TEXT_TASK: Final = "causal-lm"
TASKS: Final = (IMAGE_TASK, TEXT_TASK)
_IDENTITY_TYPE: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """Our names to the files' names. Images need ``image`` and ``label``; text needs ``response`` or ``text``."""

    record_id: str
    subject_id: str | None = None
    split: str | None = None
    image: str | None = None
    label: str | None = None
    prompt: str | None = None
    response: str | None = None
    text: str | None = None
    paraphrase: str | None = None
    """The response in other words; with ``perturbed`` it serves to measure the truth ratio, never to learn."""
    perturbed: str | None = None
    """A list of wrong responses that read alike."""
    identities: Mapping[str, str] = field(default_factory=dict[str, str])
    """Identity type (``email`` …) to column."""

    def as_json(self) -> dict[str, Any]:
        """What is set, as it is stored and shown."""
        return {key: value for key, value in asdict(self).items() if value}

    @property
    def content(self) -> Mapping[str, str]:
        """The columns that hold what models learn from, by our names."""
        names = {"image": self.image, "label": self.label, "prompt": self.prompt}
        names |= {"response": self.response, "text": self.text}
        return {key: name for key, name in names.items() if name is not None}

    @property
    def variants(self) -> Mapping[str, str]:
        """The columns of other answers to the same prompt, by our names; a row may leave them empty."""
        names = {"paraphrase": self.paraphrase, "perturbed": self.perturbed}
        return {key: name for key, name in names.items() if name is not None}

    @property
    def keys(self) -> Mapping[str, str]:
        """The columns that are indexed, by our names (``identities/email`` for an identity)."""
        names = {"record_id": self.record_id, "subject_id": self.subject_id, "split": self.split}
        names |= {f"identities/{kind}": name for kind, name in self.identities.items()}
        return {key: name for key, name in names.items() if name is not None}


def check_columns(columns: ColumnMap, *, task: str, image_shape: tuple[int, ...] | None) -> None:
    """Raises ``InvalidColumns`` when the map does not fit the task."""
    problems = _image_problems(columns, image_shape) if task == IMAGE_TASK else _text_problems(columns, image_shape)
    for kind in columns.identities:
        if not _IDENTITY_TYPE.fullmatch(kind):
            problems.append(
                Problem("/columns/identities", "bad_identity_type", "Types are lower-case words: a-z, 0-9, _.")
            )
    if any(not name for name in (columns.record_id, *columns.identities.values())):
        problems.append(Problem("/columns", "empty_name", "A column's name is not empty."))
    if problems:
        raise InvalidColumns("The columns do not fit the task.", problems)


def _image_problems(columns: ColumnMap, image_shape: tuple[int, ...] | None) -> list[Problem]:
    problems = _unwanted(columns, ("prompt", "response", "text", "paraphrase", "perturbed"), IMAGE_TASK)
    problems += [_missing(name, IMAGE_TASK) for name in ("image", "label") if name not in columns.content]
    if image_shape is not None and (len(image_shape) != 3 or min(image_shape) < 1 or image_shape[2] not in (1, 3, 4)):
        problems.append(
            Problem("/image_shape", "bad_shape", "The shape is [height, width, channels], channels 1, 3 or 4.")
        )
    return problems


def _text_problems(columns: ColumnMap, image_shape: tuple[int, ...] | None) -> list[Problem]:
    problems = _unwanted(columns, ("image", "label"), TEXT_TASK)
    if image_shape is not None:
        problems.append(Problem("/image_shape", "unwanted", f"The task {TEXT_TASK} has no images."))
    if columns.response is None and columns.text is None:
        problems.append(_missing("response", TEXT_TASK))
    if columns.text is not None and (columns.prompt is not None or columns.response is not None):
        problems.append(Problem("/columns/text", "ambiguous", "Give text alone, or response with or without prompt."))
    if columns.variants and (columns.response is None or len(columns.variants) < 2):
        message = "The truth ratio needs response, paraphrase and perturbed together."
        problems.append(Problem(f"/columns/{next(iter(columns.variants))}", "incomplete", message))
    return problems


def _unwanted(columns: ColumnMap, names: tuple[str, ...], task: str) -> list[Problem]:
    return [
        Problem(f"/columns/{name}", "unwanted", f"The task {task} has no use for this column.")
        for name in names
        if name in {**columns.content, **columns.variants}
    ]


def _missing(name: str, task: str) -> Problem:
    return Problem(f"/columns/{name}", "missing", f"The task {task} needs this column.")
