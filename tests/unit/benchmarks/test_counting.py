"""What the studies make of their runs."""

from typing import Any

import pytest

from benchmarks.quote_calibration import coverage, rank_correlation, ratios, table
from benchmarks.sequential import Done, first_reasons, row


def case(expected: float, came: float, fit: str = "digits, 6 epochs", why: str | None = None) -> dict[str, Any]:
    guess = {"low": 0.5 * expected, "expected": expected, "high": 2 * expected}
    quote = {"why": why, "gain_wanted": 1.0, **dict.fromkeys(("steps", "seconds", "retain_loss_change"), guess)}
    return {"fit": fit, "quote": quote, **dict.fromkeys(("steps", "seconds", "retain_loss_change"), came)}


def test_coverage_holds_the_ends_and_rank_correlation_the_order() -> None:
    cases = [case(10, 5), case(20, 20), case(30, 61), case(40, 100)]
    assert coverage(cases, "steps") == 0.5
    assert rank_correlation(cases, "steps") == pytest.approx(1.0)
    assert rank_correlation([case(10, 9), case(20, 5), case(30, 1)], "steps") == pytest.approx(-1.0)


def test_quotes_that_predict_nothing_are_counted_apart() -> None:
    lines = table([case(10, 10), case(10, 30), case(10, 10, why="no_holdout")]).splitlines()
    assert [line.split("|")[2].strip() for line in lines[1:]] == ["2 of 3", "2 of 3"]
    assert "50%" in lines[-1]


def test_ratios_are_of_what_came_to_what_was_expected() -> None:
    last = ratios([case(10, 5), case(10, 10), case(10, 20)]).splitlines()[-1]
    assert [cell.strip() for cell in last.split("|")[2:-1]] == ["0.60, 1.00, 1.80"] * 3


def done(number: int, *reasons: str) -> Done:
    numbers = {"accuracy": 0.5, "loss": 0.25}
    return Done(
        number, "target_reached", "passed", (), 0.01 * number, 1.0, None, None, numbers, numbers, 0.0, 0.0, reasons
    )


def test_each_reason_is_told_with_the_request_at_which_it_first_held() -> None:
    share, back = "12.0% of the training records have been erased", "The last run brought back records"
    told = first_reasons([done(1), done(2, back), done(3), done(4, share, back)])
    assert told[2:] == ["share erased: from request 4 on, 1 times", "earlier deletions: from request 2 on, 2 times"]
    assert told[:2] == ["retain accuracy: never", "holdout accuracy: never"]
    assert row(done(4, share)).startswith("| 4 | 4.0% | target_reached | passed | 1.00 |")
