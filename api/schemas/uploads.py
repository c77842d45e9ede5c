"""Uploads on the wire."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from api.schemas.common import Time, WireIn, WireOut
from core.uploads.service import AnnouncedFile, Place
from core.uploads.tables import Upload

_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_UPLOAD: JsonDict = {
    "id": "up_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "status": "open",
    "created_at": "2031-03-01T11:12:40.120Z",
    "expires_at": "2031-03-02T11:12:40.120Z",
    "files": [
        {
            "path": "train.parquet",
            "size": 123,
            "sha256": _SHA256,
            "method": "PUT",
            "url": "https://objects.example/unlearn/uploads/train.parquet?X-Amz-Signature=5f1c",
            "headers": {},
            "parts": None,
        }
    ],
}


class FileIn(WireIn):
    """A file that will be sent."""

    path: str = Field(description="relative, with '/' between folders", examples=["train.parquet"])
    size: int = Field(ge=0, le=2**53, description="bytes", examples=[123])
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="SHA-256 of the content in lower-case hexadecimal", examples=[_SHA256]
    )

    def to_command(self) -> AnnouncedFile:
        """What the service is told."""
        return AnnouncedFile(self.path, self.size, self.sha256)


class UploadIn(WireIn):
    """Files that will be sent, all of which belong to one data set or model version."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"files": [{"path": "train.parquet", "size": 123, "sha256": _SHA256}]}]}
    )

    files: list[FileIn] = Field(min_length=1)


class PartOut(WireOut):
    """One piece of a large file: PUT exactly `size` bytes, pieces in order of `number`."""

    number: int
    size: int
    url: str


class UploadFileOut(WireOut):
    """A file and where to send it; `url` and `parts` are null once the upload takes no more."""

    path: str
    size: int
    sha256: str
    method: str
    url: str | None
    headers: dict[str, str] = Field(description="to be sent as they are")
    parts: list[PartOut] | None = Field(description="large files come in parts instead of by one `url`")


class UploadOut(WireOut):
    """An upload. `open` takes files, `complete` is verified, `used` became part of something, `expired` is gone."""

    model_config = ConfigDict(json_schema_extra={"examples": [_UPLOAD]})

    id: str
    status: str
    created_at: Time
    expires_at: Time
    files: list[UploadFileOut]

    @classmethod
    def of(cls, upload: Upload, places: tuple[Place, ...]) -> Self:
        """An upload with its places, which come in the order of its files."""
        files = [
            UploadFileOut(
                path=place.path,
                size=row["size_bytes"],
                sha256=row["sha256"],
                method="PUT",
                url=place.request.url if place.request else None,
                headers=dict(place.request.headers) if place.request else {},
                parts=[PartOut(number=p.number, size=p.size_bytes, url=p.url) for p in place.parts]
                if place.parts
                else None,
            )
            for row, place in zip(upload.files, places, strict=True)
        ]
        return cls(
            id=upload.id, status=upload.status, created_at=upload.created_at, expires_at=upload.expires_at, files=files
        )
