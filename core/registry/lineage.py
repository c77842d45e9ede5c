"""Which versions still hold what runs have unlearned, from where each version came from."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self


class Descent(NamedTuple):
    """Where a version came from. ``digest``: of its files."""

    version: int
    parent_version: int | None
    run_id: str | None
    digest: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """The versions of one model and what is missing in each.

    A version has forgotten what the runs forgot that published it or one of its ancestors. What any other run of the
    model has forgotten, it holds: it is *tainted*. A version registered by hand counts as descended from the latest one
    of then, unless its files are those of an earlier version: then it holds what that one holds.
    """

    _forgotten: Mapping[int, frozenset[int]]
    _unlearned: frozenset[int]

    @classmethod
    def of(cls, versions: Iterable[Descent]) -> Self:
        """All versions of a model, purged ones too."""
        in_order = sorted(versions, key=lambda one: one.version)
        forgotten: dict[int, frozenset[int]] = {}
        first: dict[str, int] = {}
        for one in in_order:
            same = first.setdefault(one.digest, one.version)
            if one.run_id is None and same != one.version:
                forgotten[one.version] = forgotten[same]
                continue
            before = forgotten.get(one.parent_version or 0, frozenset())
            forgotten[one.version] = before | {one.version} if one.run_id is not None else before
        return cls(forgotten, frozenset(one.version for one in in_order if one.run_id is not None))

    def holds(self, version: int) -> Sequence[int]:
        """The versions in which something was unlearned that this one still holds, in order."""
        return sorted(self._unlearned - self._forgotten.get(version, frozenset()))

    def is_tainted(self, version: int) -> bool:
        """Whether it holds anything that was unlearned."""
        return bool(self._unlearned - self._forgotten.get(version, frozenset()))

    def holding(self, unlearned: int, among: Collection[int]) -> Sequence[int]:
        """Those of the versions that hold what was unlearned in that one."""
        return sorted(version for version in among if unlearned not in self._forgotten.get(version, frozenset()))
