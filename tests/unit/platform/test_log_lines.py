"""A line of the log is one event, whatever the values in it, for a collector and for a person at a terminal."""

import json
import logging
import re

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders.logs import configured

ODD = st.text(st.sampled_from('ab ="\\\r\n\0\x0b\x0c\x1b\x7f\x85\u2028\u2029\u202e\u2066')) | st.text()
_COLOUR = re.compile(r"\x1b\[\d+m")
CAPTURED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _logged(value: str) -> None:
    structlog.get_logger().info("thing_done", value=value, values=[value])
    logging.getLogger("another.library").warning("it says %s", value)


@CAPTURED
@given(ODD)
def test_a_collector_reads_one_event_from_each_line(capsys: pytest.CaptureFixture[str], value: str) -> None:
    with configured(as_json=True):
        _logged(value)
    told = capsys.readouterr().err
    own, other = map(json.loads, told.splitlines())
    assert (own["event"], own["value"], own["values"]) == ("thing_done", value, [value])
    assert other["event"] == f"it says {value}"
    assert told.replace("\n", "").isprintable()


@CAPTURED
@given(ODD)
def test_a_terminal_shows_one_event_on_each_line_and_obeys_no_value(
    capsys: pytest.CaptureFixture[str], value: str
) -> None:
    with configured(as_json=False):
        _logged(value)
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 2
    assert _COLOUR.sub("", shown).replace("\n", "").isprintable()
