"""Bodies of create requests, read strictly: each trap that schema libraries fall into."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from core.deletions.commands import Identity
from core.opendsr.errors import InvalidSubjectRequest
from core.opendsr.parsing import CreateRequest, Rules, parse, read_time

DOMAIN = "opendsr.unlearn.example"
RULES = Rules(DOMAIN, frozenset({"gdpr", "ccpa"}), max_hold_s=3600, max_ids=1500, allow_http=False)
OLD = Rules(DOMAIN, frozenset({"gdpr", "ccpa"}), max_hold_s=3600, max_ids=1500, allow_http=False, legacy=True)
ADA = {"identity_type": "email", "identity_value": "Ada@Example.org", "identity_format": "raw"}
WHOLE: dict[str, Any] = {
    "regulation": "gdpr",
    "subject_request_id": "0d1f5a52-6a0e-4b39-9b0a-3c1c4f1f7f10",
    "subject_request_type": "erasure",
    "submitted_time": "2031-03-01T09:30:00Z",
    "subject_identities": [ADA],
}
ABSENT = object()


def body(**changes: Any) -> bytes:
    fields = {key: value for key, value in {**WHOLE, **changes}.items() if value is not ABSENT}
    return json.dumps(fields).encode()


def read(rules: Rules = RULES, **changes: Any) -> CreateRequest:
    return parse(body(**changes), rules)


def refused(raw: bytes, rules: Rules = RULES) -> list[str]:
    with pytest.raises(InvalidSubjectRequest) as caught:
        parse(raw, rules)
    return [problem.pointer for problem in caught.value.problems]


def own(**keys: Any) -> dict[str, Any]:
    return {DOMAIN: keys}


def identity(value: str = "x", kind: str = "email", form: str = "raw") -> dict[str, str]:
    return {"identity_type": kind, "identity_value": value, "identity_format": form}


def test_a_whole_request_is_read() -> None:
    made = read(status_callback_urls=["https://a.example/cb?x=%20"], extensions=own(hold_seconds=9, record_ids=["r"]))
    assert made.subject_request_id == WHOLE["subject_request_id"]
    assert made.submitted_time == datetime(2031, 3, 1, 9, 30, tzinfo=UTC)
    assert made.identities == (Identity("email", "Ada@Example.org"),)
    assert (made.record_ids, made.model_ids, made.hold_s) == (("r",), (), 9)
    assert made.callback_urls == ("https://a.example/cb?x=%20",)


@pytest.mark.parametrize(
    "field", ["regulation", "subject_request_id", "subject_request_type", "submitted_time", "subject_identities"]
)
@pytest.mark.parametrize("value", [ABSENT, None, 1, True, [], {}, "", 1.5])
def test_required_fields_are_there_and_of_their_type(field: str, value: Any) -> None:
    assert refused(body(**{field: value})) == [field]


@pytest.mark.parametrize(
    "wrong",
    [
        "{0d1f5a52-6a0e-4b39-9b0a-3c1c4f1f7f10}",
        "urn:uuid:0d1f5a52-6a0e-4b39-9b0a-3c1c4f1f7f10",
        "0d1f5a526a0e4b399b0a3c1c4f1f7f10",
        "0D1F5A52-6A0E-4B39-9B0A-3C1C4F1F7F10",
        "0d1f5a52-6a0e-1b39-9b0a-3c1c4f1f7f10",
        "0d1f5a52-6a0e-7b39-9b0a-3c1c4f1f7f10",
        "0d1f5a52-6a0e-4b39-cb0a-3c1c4f1f7f10",
        "0d1f5a52-6a0e-4b39-7b0a-3c1c4f1f7f10",
        " 0d1f5a52-6a0e-4b39-9b0a-3c1c4f1f7f10",
        "0d1f5a52-6a0e-4b39-9b0a-3c1c4f1f7f10\n",
        "0d1f5a52-6a0e-4b39-9b0a-3c1c4f1f7f1g",
        "0d1f5a52-6a0e-4b39-9b0a-3c1c4f1f7f1٠",
    ],
)
def test_only_lower_case_hyphenated_uuids_of_version_4_are_ids(wrong: str) -> None:
    assert refused(body(subject_request_id=wrong)) == ["subject_request_id"]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2031-03-01T09:30:00Z", datetime(2031, 3, 1, 9, 30, tzinfo=UTC)),
        ("2031-03-01t09:30:00z", datetime(2031, 3, 1, 9, 30, tzinfo=UTC)),
        ("2031-03-01T09:30:00+02:00", datetime(2031, 3, 1, 7, 30, tzinfo=UTC)),
        ("2031-03-01T00:30:00.123456789+02:00", datetime(2031, 2, 28, 22, 30, 0, 123456, tzinfo=UTC)),
        ("2031-03-01T09:30:00.5-23:59", datetime(2031, 3, 2, 9, 29, 0, 500000, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("1970-01-01T00:00:00-00:00", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_have_any_offset_and_up_to_nine_digits(text: str, at: datetime) -> None:
    assert read(submitted_time=text).submitted_time == at


@pytest.mark.parametrize(
    "wrong",
    [
        "2031-03-01",
        "2031-03-01T09:30:00",
        "2031-03-01 09:30:00Z",
        "2031-03-01T09:30Z",
        "2031-03-01T09:30:00.1234567890Z",
        "2031-03-01T09:30:00.Z",
        "2031-02-29T09:30:00Z",
        "2031-03-01T24:30:00Z",
        "2031-03-01T09:30:61Z",
        "2031-03-01T09:30:00+0200",
        "2031-03-01T09:30:00+02",
        "2031-03-01T09:30:00+24:00",
        "2031-03-01T09:30:00+02:60",
        "0001-01-01T00:00:00+02:00",
        "9999-12-31T23:59:59-02:00",
        "0000-01-01T00:00:00Z",
        "1930000000",
        "２031-03-01T09:30:00Z",
    ],
)
def test_other_times_are_refused(wrong: str) -> None:
    assert read_time(wrong) is None
    assert refused(body(submitted_time=wrong)) == ["submitted_time"]


def test_null_for_an_optional_field_is_absence() -> None:
    made = read(extensions=None, status_callback_urls=None, api_version=None)
    assert (made.callback_urls, made.hold_s) == ((), None)
    assert read(extensions=own(record_ids=None, model_ids=None, hold_seconds=None)).hold_s is None
    assert read(extensions={DOMAIN: None}).record_ids == ()


def test_unknown_fields_are_passed_over() -> None:
    made = read(colour="red", subject_identities=[{**ADA, "note": 1}], extensions=own(unknown=[1]))
    assert len(made.identities) == 1


@pytest.mark.parametrize("wrong", ["GDPR", "lgpd", "gdpr ", "eu"])
def test_laws_that_are_not_configured_are_refused(wrong: str) -> None:
    assert refused(body(regulation=wrong)) == ["regulation"]


@pytest.mark.parametrize("wrong", ["access", "portability", "Erasure", "delete"])
def test_only_erasure_is_done(wrong: str) -> None:
    assert refused(body(subject_request_type=wrong)) == ["subject_request_type"]


@pytest.mark.parametrize("version", ["2", "2.0", "2.1", "2.10"])
def test_versions_of_the_second_generation_are_taken(version: str) -> None:
    read(api_version=version)


@pytest.mark.parametrize("version", ["1", "1.0", "3", "0.1", "20", "2.", "v2", "2.x", "", "two", 2, 2.0, True, ["2"]])
def test_other_versions_are_refused(version: Any) -> None:
    assert refused(body(api_version=version)) == ["api_version"]


@pytest.mark.parametrize("version", [None, ABSENT, "0.1", "1", "1.0", "1.3", "2", "2.0"])
def test_the_old_form_takes_older_versions_and_needs_no_law(version: Any) -> None:
    assert read(OLD, api_version=version, regulation=ABSENT).regulation == "gdpr"
    assert read(OLD, api_version=version, regulation="ccpa").regulation == "ccpa"


@pytest.mark.parametrize("version", ["0.2", "3", "0", "x"])
def test_the_old_form_refuses_the_rest(version: str) -> None:
    assert refused(body(api_version=version), OLD) == ["api_version"]


HEX = "0123456789abcdef" * 4


def test_identities_are_normalised_by_their_type() -> None:
    given = [
        identity("  Jose\u0301@Example.ORG "),
        identity(HEX.upper(), form="sha256"),
        identity(" A b ", "controller_customer_id"),
        identity(HEX, "controller_customer_id", "sha256"),
    ]
    assert read(subject_identities=given).identities == (
        Identity("email", "Jos\u00e9@Example.ORG"),
        Identity("email", HEX, hashed=True),
        Identity("controller_customer_id", " A b "),
        Identity("controller_customer_id", HEX, hashed=True),
    )


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (identity("x", "ios_vendor_id"), "subject_identities[1]"),
        (identity(HEX, "email", "md5"), "subject_identities[1]"),
        (identity(HEX, "email", "SHA256"), "subject_identities[1]"),
        (identity(HEX[1:], "email", "sha256"), "subject_identities[1].identity_value"),
        (identity(HEX + "0", "email", "sha256"), "subject_identities[1].identity_value"),
        (identity("g" * 64, "email", "sha256"), "subject_identities[1].identity_value"),
        (identity("   "), "subject_identities[1].identity_value"),
        (identity(""), "subject_identities[1].identity_value"),
        ({**ADA, "identity_value": 1}, "subject_identities[1].identity_value"),
        ({**ADA, "identity_value": None}, "subject_identities[1].identity_value"),
        ({**ADA, "identity_format": ["raw"]}, "subject_identities[1].identity_format"),
        ({"identity_type": "email", "identity_value": "a"}, "subject_identities[1].identity_format"),
        ("ada@example.org", "subject_identities[1]"),
        (None, "subject_identities[1]"),
    ],
)
def test_one_bad_identity_spoils_the_request(wrong: Any, field: str) -> None:
    assert refused(body(subject_identities=[ADA, wrong])) == [field]


def test_identities_are_a_list_of_at_most_a_thousand() -> None:
    assert refused(body(subject_identities={"email": "ada@example.org"})) == ["subject_identities"]
    read(subject_identities=[identity(f"a{n}@b.example") for n in range(1000)])
    assert refused(body(subject_identities=[ADA] * 1001)) == ["subject_identities"]


@pytest.mark.parametrize("identities", [ABSENT, None, []])
def test_records_may_stand_for_identities(identities: Any) -> None:
    assert read(subject_identities=identities, extensions=own(record_ids=["r-1", "r-1"])).record_ids == ("r-1",)
    assert refused(body(subject_identities=identities, extensions=own(record_ids=[]))) == ["subject_identities"]


@pytest.mark.parametrize("extensions", [[], "x", 1, True])
def test_extensions_are_an_object(extensions: Any) -> None:
    assert refused(body(extensions=extensions)) == ["extensions"]


OWN = f'extensions["{DOMAIN}"]'


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ([], OWN),
        ("x", OWN),
        ({"record_ids": "r"}, f"{OWN}.record_ids"),
        ({"record_ids": ["r", 1]}, f"{OWN}.record_ids[1]"),
        ({"record_ids": [""]}, f"{OWN}.record_ids[0]"),
        ({"record_ids": ["r"] * 1501}, f"{OWN}.record_ids"),
        ({"record_ids": [f"r{n}" for n in range(1500)]}, f"{OWN}.record_ids"),
        ({"model_ids": []}, f"{OWN}.model_ids"),
        ({"model_ids": [None]}, f"{OWN}.model_ids[0]"),
        ({"hold_seconds": -1}, f"{OWN}.hold_seconds"),
        ({"hold_seconds": 3601}, f"{OWN}.hold_seconds"),
        ({"hold_seconds": True}, f"{OWN}.hold_seconds"),
        ({"hold_seconds": 2.0}, f"{OWN}.hold_seconds"),
        ({"hold_seconds": "2"}, f"{OWN}.hold_seconds"),
        ({"hold_seconds": 2**63}, f"{OWN}.hold_seconds"),
    ],
)
def test_our_extension_is_checked(entry: Any, field: str) -> None:
    assert refused(body(extensions={DOMAIN: entry})) == [field]


def test_extensions_of_others_are_not_read() -> None:
    theirs = {"other.example": "anything", "third.example": {"n": 2**63 - 1, "m": -(2**63), "hold_seconds": "x"}}
    assert read(extensions=theirs).value["extensions"] == theirs


@pytest.mark.parametrize(
    "wrong",
    [
        "http://a.example/",
        "ftp://a.example/",
        "a.example/cb",
        "//a.example/cb",
        "https:///cb",
        "https://",
        "https://user@a.example/",
        "https://user:pass@a.example/",
        "https://a.example/#part",
        "https://a.example/a b",
        "https://a.example:port/",
        "https://[::1/",
        "https://169.254.169.254/latest",
        "https://2852039166/",
        "https://0xa9fea9fe/",
        "https://0251.0376.0251.0376/",
        "https://[fe80::1]/",
        "https://[fe80::1%25eth0]/",
        "https://[::ffff:169.254.169.254]/",
        "https://a.example/" + "x" * 2048,
        "",
    ],
)
def test_addresses_that_nothing_may_be_sent_to(wrong: str) -> None:
    assert refused(body(status_callback_urls=["https://ok.example/", wrong])) == ["status_callback_urls[1]"]


def test_no_setting_opens_link_local_addresses() -> None:
    loose = Rules(DOMAIN, frozenset({"gdpr"}), max_hold_s=9, max_ids=9, allow_http=True)
    made = read(loose, status_callback_urls=["http://127.0.0.1:9/cb", "http://10.0.0.1/"])
    assert len(made.callback_urls) == 2
    for wrong in ("http://169.254.169.254/", "http://[fe80::1]/", "http://u@a.example/", "http://a.example/#x"):
        assert refused(body(status_callback_urls=[wrong]), loose) == ["status_callback_urls[0]"]


@pytest.mark.parametrize(
    ("urls", "field"),
    [
        ("https://a.example", "status_callback_urls"),
        ([1], "status_callback_urls[0]"),
        ([None], "status_callback_urls[0]"),
        (["https://a.example/"] * 11, "status_callback_urls"),
    ],
)
def test_addresses_are_at_most_ten_texts(urls: Any, field: str) -> None:
    assert refused(body(status_callback_urls=urls)) == [field]


def nested(levels: int) -> bytes:
    inner = "[" * (levels - 1) + "]" * (levels - 1)
    return body(x="@").replace(b'"@"', inner.encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"1",
        body() + b"x",
        body() + b"{}",
        body(x="@").replace(b"@", b"\\u0000"),
        body(x="@").replace(b"@", b"\\ud800"),
        body(x="@").replace(b"@", b"\\udc00\\ud800"),
        body(x="@").replace(b'"x"', b'"\\u0000"'),
        body(subject_identities=[{**ADA, "identity_value": "@"}]).replace(b"@", b"a\\u0000b"),
        body(x="@").replace(b"@", b"\xff"),
        body(x="@").replace(b'"@"', b"NaN"),
        body(x="@").replace(b'"@"', b"-Infinity"),
        body(x="@").replace(b'"@"', b"1e999"),
        body(x="@").replace(b'"@"', b"1" * 5000),
        body(x="@").replace(b'"@"', b"01"),
        body(x="@").replace(b'"@"', b"'a'"),
        b"\xef\xbb\xbf" + body(),
        body().decode().encode("utf-16"),
        nested(33),
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=range(25),
)
def test_what_is_no_strict_json_is_refused_and_not_repeated(raw: bytes) -> None:
    assert refused(raw) == []


def test_thirty_two_levels_are_walked() -> None:
    assert parse(nested(32), RULES).subject_request_id == WHOLE["subject_request_id"]


def test_every_problem_is_told_and_no_value_repeated() -> None:
    secret = "ada@secret.example"
    raw = body(
        regulation=secret,
        subject_request_id=secret,
        subject_identities=[identity(secret, "email", secret), identity(secret, "email", "sha256")],
        status_callback_urls=[f"https://{secret}/"],
        submitted_time=secret,
    )
    with pytest.raises(InvalidSubjectRequest) as caught:
        parse(raw, RULES)
    assert len(caught.value.problems) == 6
    assert "secret" not in repr((caught.value.problems, caught.value.detail))
