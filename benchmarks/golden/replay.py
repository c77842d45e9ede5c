"""From a folder of reference vectors to its cases, each with a function that replays it."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from benchmarks.golden.baselines import baseline
from benchmarks.golden.check import Case, Check
from benchmarks.golden.steps import step_of_model
from benchmarks.golden.trajectories import trajectory
from benchmarks.golden.updates import update


def cases(folder: Path) -> Iterator[tuple[Case, Callable[[], list[str]]]]:
    """Every case of a folder with a function that replays it."""
    index = json.loads((folder / "index.json").read_text())
    files = {suite: load_file(folder / name) for suite, name in index["files"].items()}
    for case in index["cases"]:
        yield case, lambda case=case: replay(case, files[case["suite"]], index.get("models", {}))


def replay(case: Case, tensors: Mapping[str, Tensor], models: Mapping[str, Any]) -> list[str]:
    """What does not match in a case; empty if it passes."""
    check = Check(case["options"].get("dtype", "float32"))
    if case["suite"] == "trajectories":
        trajectory(case, tensors, models, check)
    else:
        {"updates": update, "steps": step_of_model, "baselines": baseline}[case["suite"]](case, tensors, check)
    return check.wrong
