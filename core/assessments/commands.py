"""What callers ask of this slice, and what it answers: plain values, no rows and no wire formats."""

from dataclasses import asdict, dataclass
from typing import Self

from core.deletions.commands import Identity, SubmitDeletion
from core.deletions.selection import Part
from core.runs.tables import Run


@dataclass(frozen=True, slots=True)
class SubmitAssessment:
    """An assessment as asked for: the selectors of a deletion request, and one model."""

    model: str
    dataset: str | None = None
    record_ids: tuple[str, ...] = ()
    subject_ids: tuple[str, ...] = ()
    identities: tuple[Identity, ...] = ()
    policy: str | None = None

    def as_deletion(self) -> SubmitDeletion:
        """The deletion request whose hardness is asked for."""
        return SubmitDeletion(
            model=self.model,
            dataset=self.dataset,
            record_ids=self.record_ids,
            subject_ids=self.subject_ids,
            identities=self.identities,
            policy=self.policy,
        )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many of the named records are not part of the assessment, and why."""

    erased: int = 0
    pending_erasure: int = 0
    held_out: int = 0

    @classmethod
    def of(cls, part: Part) -> Self:
        """What ``part`` covers besides active training records, and what has been unlearned before."""
        train = [record for record in part.covered if record.split == "train"]
        return cls(
            erased=part.already_erased,
            pending_erasure=sum(record.state != "active" for record in train),
            held_out=len(part.covered) - len(train),
        )

    def as_dict(self) -> dict[str, int]:
        """For the timeline."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AssessmentView:
    """The run that measures, with the name of its model and what was left out."""

    run: Run
    model: str
    left_out: LeftOut
