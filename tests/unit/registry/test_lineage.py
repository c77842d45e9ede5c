"""Which versions hold what was unlearned follows from their descent alone."""

from hypothesis import given, settings
from hypothesis import strategies as st

from core.registry.lineage import Descent, Lineage


def line(*rows: tuple[int, int | None, bool] | tuple[int, int | None, bool, str]) -> Lineage:
    """Versions as (number, parent, by a run, digest)."""
    made = [
        Descent(row[0], row[1], f"run_{row[0]}" if row[2] else None, row[3] if len(row) > 3 else f"d{row[0]}")
        for row in rows
    ]
    return Lineage.of(made)


def test_an_earlier_version_holds_what_each_later_run_unlearned() -> None:
    found = line((1, None, False), (2, 1, True), (3, 2, True))
    assert [found.holds(version) for version in (1, 2, 3)] == [[2, 3], [3], []]
    assert [found.is_tainted(version) for version in (1, 2, 3)] == [True, True, False]


def test_a_descendant_of_a_rollback_holds_what_the_other_branch_unlearned() -> None:
    found = line((1, None, False), (2, 1, True), (3, 1, True))
    assert [found.holds(version) for version in (1, 2, 3)] == [[2, 3], [3], [2]]


def test_a_version_registered_by_hand_descends_from_the_latest_unless_its_files_are_older() -> None:
    found = line((1, None, False, "old"), (2, 1, True), (3, 2, False), (4, 3, False, "old"))
    assert found.holds(3) == []
    assert found.holds(4) == found.holds(1) == [2]


@settings(max_examples=60, deadline=None)
@given(parents=st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=10))
def test_lineage_agrees_with_walking_up_by_hand(parents: list[tuple[int, bool]]) -> None:
    parent_of = {n: (p % n or None) if n > 1 else None for n, (p, _) in enumerate(parents, 1)}
    by_run = {n for n, (_, run) in enumerate(parents, 1) if run}
    found = line(*((n, parent_of[n], n in by_run) for n in parent_of))
    for n in parent_of:
        ancestors, at = set[int](), n
        while at is not None:
            ancestors.add(at)
            at = parent_of[at]
        assert found.holds(n) == sorted(by_run - ancestors)
