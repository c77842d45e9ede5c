"""What a builder of models leaves behind."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Built:
    """Where a model and its records lie, and how the dataset is to be registered."""

    model: Path
    records: Path
    task: str
    columns: Mapping[str, str]
    image_shape: tuple[int, int, int] | None = None
