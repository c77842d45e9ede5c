"""The ``curl`` lines of our pages as calls."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FENCE = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One call of a page, with variables still in it. ``status``: what the page says comes of it."""

    words: tuple[str, ...]
    status: int

    def filled(self, variables: Mapping[str, str]) -> tuple[str, str, dict[str, Any]]:
        """Method, path and parts of the call. Raises ``KeyError`` for a variable that is not there."""
        words = [re.sub(r"\$([A-Z_]+)", lambda found: variables[found[1]], word) for word in self.words]
        method, path, parts = "", "", {"headers": {}}
        rest = iter(words)
        for word in rest:
            match word:
                case "-sS":
                    pass
                case "-X":
                    method = next(rest)
                case "-H":
                    name, _, value = next(rest).partition(": ")
                    parts["headers"][name] = value
                case "-d":
                    parts["content"] = next(rest).encode()
                case "-u":
                    parts["auth"] = tuple(next(rest).split(":", 1))
                case _:
                    path = word.removeprefix(variables["UNLEARN_URL"])
                    assert path.startswith("/"), word
        return method or ("POST" if "content" in parts else "GET"), path, parts


def examples(page: Path) -> Iterator[Example]:
    """Every call of a page, in order. Each ends with its status as a comment."""
    for block in _FENCE.findall(page.read_text()):
        for command in re.split(r"^ *curl ", block, flags=re.MULTILINE)[1:]:
            call, said, status = command.rpartition("  # ")
            assert said, f"a call of {page.name} does not say what comes of it"
            yield Example(tuple(shlex.split(call.replace("\\\n", " "))), int(status))
