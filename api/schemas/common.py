"""Shapes that several resources share on the wire."""

from datetime import datetime
from typing import Annotated, Generic, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints

from core.platform.clock import rfc3339

Item = TypeVar("Item")

Time = Annotated[
    datetime, PlainSerializer(rfc3339, return_type=str, when_used="json"), Field(examples=["2031-03-01T11:12:40.120Z"])
]
"""A moment going out: RFC 3339, UTC, milliseconds, ``Z``."""

TimeIn = AwareDatetime
"""A moment coming in: RFC 3339 with an offset."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""A name that can stand in a path."""


class WireIn(BaseModel):
    """What a caller sends. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class WireOut(BaseModel):
    """What we answer."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class Listing(BaseModel, Generic[Item]):
    """A part of a list. ``next_cursor`` goes into ``?cursor=`` to go on; the ``Link`` header says the same."""

    data: list[Item]
    next_cursor: str | None = Field(description="null on the last page")
    has_more: bool
