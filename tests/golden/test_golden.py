"""Every reference vector, if a folder of them is at hand (``UNLEARN_GOLDEN_DIR``, or beside the repository)."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("UNLEARN_GOLDEN_DIR", Path(__file__).parents[2].parent / "shared" / "golden"))

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not (FOLDER / "index.json").is_file(), reason=f"no reference vectors in {FOLDER}"),
]


@pytest.mark.parametrize("suite", ["updates", "steps", "baselines", "trajectories"])
def test_every_vector_of_a_suite_is_reproduced(suite: str) -> None:
    from benchmarks.golden import cases

    results = {case["id"]: run() for case, run in cases(FOLDER) if case["suite"] == suite}
    assert results, f"no {suite} in {FOLDER}"
    assert {name: wrong for name, wrong in results.items() if wrong} == {}
