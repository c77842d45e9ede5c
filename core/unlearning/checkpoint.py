"""Where a run stands, in a form that can be put away: tensors by name and facts that JSON can hold.

One file is one checkpoint: safetensors, with the facts as JSON in its metadata. Nothing in it can run.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_FACTS = "facts"


@dataclass(slots=True)
class State:
    """Everything that something needs to go on: host tensors that nobody changes any more, and facts."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def put(self, name: str, part: "State") -> None:
        """Take in the state of a part, under its name."""
        self.tensors |= {f"{name}/{key}": tensor for key, tensor in part.tensors.items()}
        self.facts[name] = part.facts

    def part(self, name: str) -> "State":
        """What ``put`` took in. Raises ``KeyError``."""
        start = f"{name}/"
        tensors = {key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)}
        return State(tensors, self.facts[name])

    def save(self, path: Path) -> None:
        """Write one file, tensor by tensor."""
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        save_file(tensors, path, metadata={_FACTS: json.dumps(self.facts)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote. Raises ``ValueError`` for any other file."""
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})[_FACTS])
                return cls({name: file.get_tensor(name) for name in file.keys()}, facts)  # noqa: SIM118 (no iterator)
        except (SafetensorError, KeyError, OSError) as error:
            raise ValueError("this is no file of a checkpoint") from error
