"""A number and its interval."""

import math
import subprocess
import sys

from core.evaluation.estimates import Estimate


def test_an_exact_number_has_no_width() -> None:
    assert Estimate.exact(2.0) == Estimate(2.0, 2.0, 2.0)


def test_json_says_none_for_what_is_not_finite() -> None:
    assert Estimate.unbounded(1.0).as_dict() == {"value": 1.0, "low": None, "high": None}
    assert Estimate.unknown().as_dict() == {"value": None, "low": None, "high": None}


def test_a_rising_function_maps_the_ends() -> None:
    assert Estimate(1.0, 0.0, 2.0).through(math.exp) == Estimate(math.e, 1.0, math.exp(2.0))
    assert not Estimate.unknown().through(math.exp).known


def test_reading_an_estimate_needs_no_numpy() -> None:
    check = "import sys, core.evaluation.estimates; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
