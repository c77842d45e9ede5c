"""Every expected failure has one status and a code of its own."""

import importlib
import pkgutil
from collections import Counter

import api.app  # noqa: F401  # loads every route
import core
from api.errors import problems, status_of
from core.platform.errors import DomainError

_TORCH = ("core.hamu", "core.unlearning", "core.evaluation")


def _everything() -> list[type[DomainError]]:
    for module in pkgutil.walk_packages(core.__path__, "core."):
        if not module.name.startswith(_TORCH):
            importlib.import_module(module.name)
    found: list[type[DomainError]] = []
    waiting: list[type[DomainError]] = [DomainError]
    while waiting:
        children = waiting.pop().__subclasses__()
        found += children
        waiting += children
    return list(dict.fromkeys(kind for kind in found if kind.__module__.startswith(("core.", "api."))))


def test_every_class_has_a_status() -> None:
    kinds = _everything()
    assert len(kinds) > 20
    for kind in kinds:
        assert 400 <= status_of(kind) < 600, kind


def test_every_class_has_a_code_of_its_own_and_says_what_it_means() -> None:
    kinds = _everything()
    without = [kind.__name__ for kind in kinds if "code" not in vars(kind)]
    assert without == []
    counts = Counter(kind.code for kind in kinds)
    assert [code for code, count in counts.items() if count > 1] == []
    assert all(kind.code.replace("_", "").isalnum() and kind.code.islower() for kind in kinds)
    assert [kind.__name__ for kind in kinds if not (kind.__doc__ or "").strip()] == []


def test_what_may_pass_says_when_to_come_back() -> None:
    for kind in _everything():
        if status_of(kind) in (429, 503):
            assert kind.retry_after_s or status_of(kind) == 429, kind


def test_responses_are_problem_documents() -> None:
    listed = problems(404, 409)
    assert set(listed) == {404, 409}
    assert all("application/problem+json" in response["content"] for response in listed.values())
