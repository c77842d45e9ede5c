"""Shapes that several resources share on the wire."""

import re
from datetime import UTC, datetime
from typing import Annotated, Generic, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
)

from core.platform.clock import rfc3339

Item = TypeVar("Item")

Time = Annotated[
    datetime, PlainSerializer(rfc3339, return_type=str, when_used="json"), Field(examples=["2031-03-01T11:12:40.120Z"])
]
"""A moment going out: RFC 3339, UTC, milliseconds, ``Z``."""


def _no_number(value: object) -> object:
    if isinstance(value, int | float) or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        raise ValueError("a moment is RFC 3339 text with an offset")  # and not seconds since some other one
    return value


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a moment lies within the years 1 to 9999 in UTC") from None


_NUMBER = re.compile(r"\s*[+-]?[\d_]*\.?[\d_]*([eE][+-]?\d+)?\s*")
TimeIn = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_no_number), AfterValidator(_in_utc)]
"""A moment coming in: RFC 3339 with an offset; from here on in UTC."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""A name that can stand in a path."""


class WireIn(BaseModel):
    """What a caller sends. Unknown fields are refused, and so are values of another type: no ``true`` for 1."""

    model_config = ConfigDict(extra="forbid", strict=True)


class WireOut(BaseModel):
    """What we answer."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class Listing(BaseModel, Generic[Item]):
    """A part of a list. ``next_cursor`` goes into ``?cursor=`` to go on; the ``Link`` header says the same."""

    data: list[Item]
    next_cursor: str | None = Field(description="null on the last page")
    has_more: bool
