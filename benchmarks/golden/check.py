"""A case of the index, and what does not match in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Case = Mapping[str, Any]
"""One entry of the index, as parsed from JSON."""


@dataclass(slots=True)
class Check:
    """Collects what does not match in one case."""

    dtype: str = "float32"
    wrong: list[str] = field(default_factory=list)

    def exact(self, what: str, got: object, wanted: object) -> None:
        if got != wanted:
            self.wrong.append(f"{what}: {got!r} for {wanted!r}")

    def near(self, what: str, got: float, wanted: float, allowed: float) -> None:
        if not abs(got - float(wanted)) <= allowed:
            self.wrong.append(f"{what}: {got!r} for {wanted!r}, allowed {allowed:.1e}")

    def tensor(self, what: str, got: Tensor, wanted: Tensor, *, scale: float | None = None) -> None:
        """Largest difference over the largest value."""
        largest = float(wanted.abs().max()) if scale is None else scale
        self.near(what, float((got.double() - wanted.double()).abs().max()), 0.0, self.pick(5e-6, 1e-12) * largest)

    def pick(self, single: float, double: float) -> float:
        return single if self.dtype == "float32" else double


def read(keys: Mapping[str, str | None], tensors: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    return {name: None if key is None else tensors[key] for name, key in keys.items()}
