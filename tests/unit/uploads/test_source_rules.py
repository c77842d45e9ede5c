"""Where a source may point."""

import pytest

from core.uploads.errors import SourceNotAllowed
from core.uploads.sources import allowed

S3 = {"store_root": "s3://store/unlearn/", "roots": ["s3://training/{workspace}/", "s3://open"], "workspace": "acme"}
DISK = {"store_root": "file:///data/objects/", "roots": ["file:///data/imports/{workspace}/"], "workspace": "acme"}


@pytest.mark.parametrize(
    "uri", ["s3://training/acme/", "s3://training/acme", "s3://training/acme/a/b.parquet", "s3://open/x"]
)
def test_places_under_a_root_are_open(uri: str) -> None:
    assert allowed(uri, **S3) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "", "acme", "s3://", "s3://training/", "s3://training/acme-evil/x", "s3://training/other/x", "s3://opened/x",
        "s3://training/acme/../other/x", "s3://training/acme/./x", "s3://store/unlearn/uploads/x", "s3://store/", "s3://store",
        "https://training/acme/x", "file:///etc/passwd", "s3://training/acme/a\nb",
    ],
)  # fmt: skip
def test_everything_else_is_closed(uri: str) -> None:
    with pytest.raises(SourceNotAllowed) as refusal:
        allowed(uri, **S3)
    assert [problem.pointer for problem in refusal.value.problems] == ["/source_uri"]


def test_files_are_open_to_a_service_on_a_directory() -> None:
    assert allowed("file:///data/imports/acme/a%20b/", **DISK) == "file:///data/imports/acme/a%20b/"
    assert allowed("file:////data//imports/acme/x", **DISK) == "file:///data/imports/acme/x"


@pytest.mark.parametrize(
    "uri",
    [
        "s3://training/acme/x", "file:///data/objects/uploads/x", "file:///data/imports/other/x", "file:///data/",
        "file:///data/imports/acme/%2e%2e/other/x", "file:///data/imports/acme/..%2fother", "file://host/data/imports/acme/x",
        "file:///", "/data/imports/acme/x",
    ],
)  # fmt: skip
def test_a_directory_has_walls_too(uri: str) -> None:
    with pytest.raises(SourceNotAllowed):
        allowed(uri, **DISK)


def test_a_root_that_holds_the_store_does_not_open_it() -> None:
    with pytest.raises(SourceNotAllowed):
        allowed("s3://store/", store_root="s3://store/unlearn/", roots=["s3://store/"], workspace="acme")
    assert allowed("s3://store/training/", store_root="s3://store/unlearn/", roots=["s3://store/"], workspace="acme")


def test_a_refusal_says_what_may_be_named() -> None:
    with pytest.raises(SourceNotAllowed, match=r"only file:///data/imports/acme/ may be named"):
        allowed("file:///home/me/x", **DISK)
    with pytest.raises(SourceNotAllowed, match="use an upload"):
        allowed("s3://training/acme/", store_root="s3://store/", roots=[], workspace="acme")


def test_a_sandbox_reads_nothing_from_roots_that_all_share() -> None:
    sandbox = {**S3, "workspace": "acme:test"}
    assert allowed("s3://training/acme:test/a/", **sandbox)
    for uri in ("s3://open/a/", "s3://training/acme/a/"):
        with pytest.raises(SourceNotAllowed):
            allowed(uri, **sandbox)
