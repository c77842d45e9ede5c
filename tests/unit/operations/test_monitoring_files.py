"""Alert rules and dashboard ask only for metrics that exist, with labels that they have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import RequestMetrics, WorkMetrics
from core.operations.service import Survey
from worker.metrics import LoopMetrics, RunMetrics

FOLDER = Path(__file__).parents[3] / "docs" / "monitoring"
_SERIES = re.compile(r"(unlearn_[a-z_]+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r'([a-z_]+)=~?"([^"]*)"')


def survey() -> Survey:
    queues = ("runs", "outbox_tasks", "outbox_events", "webhooks", "opendsr_callbacks")
    return Survey({}, 0, {}, {"overdue": 0, "day": 0, "week": 0}, {}, 0, dict.fromkeys(queues, 0.0))


@pytest.fixture(scope="module")
def series() -> dict[str, list[dict[str, str]]]:
    """Every sample there can be, by name: its sets of labels."""
    registry = CollectorRegistry()
    registry.register(WorkMetrics(survey))
    RequestMetrics(registry).observe("GET", "/v1/runs", 200, 0.1)
    runs, loops = RunMetrics(registry), LoopMetrics(registry)
    runs.stepped({"kind": "forget", "seconds": 0.5})
    runs.lost()
    for status in ("succeeded", "failed"):
        runs.left(status)
    for result in ("work", "idle", "failed"):
        loops.turned("reaper", result, 0.1)
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def expressions() -> Iterator[str]:
    """Of both files."""
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("expression", tuple(expressions()))
def test_every_expression_finds_its_series(expression: str, series: dict[str, list[dict[str, str]]]) -> None:
    asked = _SERIES.findall(expression)
    assert asked
    for name, selector in asked:
        assert name in series, f"there is no metric {name}"
        for label, value in _LABEL.findall(selector):
            assert any(re.fullmatch(value, labels.get(label, "")) or value == "5.." for labels in series[name]), (
                f"{name} never has {label}={value}"
            )


def test_every_metric_is_described(series: dict[str, list[dict[str, str]]]) -> None:
    words = (FOLDER / "README.md").read_text()
    for name in series:
        if name.endswith("_created"):
            continue  # the client library's own
        stem = re.sub(r"_(bucket|sum|count)$", "", name)
        assert f"`{stem}`" in words, f"{stem} is not in docs/monitoring/README.md"


def test_every_alert_says_what_to_do() -> None:
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert rule["annotations"]["summary"]
            assert rule["annotations"]["action"]
