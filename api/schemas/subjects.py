"""Looking people up, on the wire."""

from typing import Self

from pydantic import ConfigDict, Field

from api.schemas.common import WireIn, WireOut
from api.schemas.deletion_requests import Id, IdentityIn, Short
from core.deletions.commands import Identity, LookupResult, SubmitDeletion


class LookupIn(WireIn):
    """Whom to look for; at least one."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"identities": [{"type": "email", "value": "a@b.example"}]}]}
    )

    dataset: Short | None = Field(None, description="unset: every data set is searched")
    subject_ids: list[Id] = Field(default_factory=list[Id])
    identities: list[IdentityIn] = Field(default_factory=list[IdentityIn])

    def to_command(self) -> SubmitDeletion:
        """The selection of a deletion request about them."""
        return SubmitDeletion(
            dataset=self.dataset,
            subject_ids=tuple(self.subject_ids),
            identities=tuple(Identity(one.type, one.value) for one in self.identities),
        )


class LookupOut(WireOut):
    """How many records are about any of them."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"record_count": 12, "already_erased": 0}]})

    record_count: int = Field(description="records that are not erased; 0: nothing to ask for")
    already_erased: int

    @classmethod
    def of(cls, found: LookupResult) -> Self:
        """From the service's answer."""
        return cls(record_count=found.record_count, already_erased=found.already_erased)
