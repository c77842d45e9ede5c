"""Which addresses may be registered, and which may be called."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.platform.errors import InvalidInput
from core.platform.settings import WebhookSettings
from core.webhooks.addresses import RefusedAddress, Rules, callable_addresses, check_url, may_call

STRICT = Rules()
TESTS = Rules.of(WebhookSettings(allow_http=True, allow_networks=("127.0.0.0/8", "169.254.0.0/16", "::1/128")))


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("https://hooks.acme.example", "https://hooks.acme.example/"),
        ("https://Hooks.ACME.example/Path?x=Y", "https://hooks.acme.example/Path?x=Y"),
        ("https://hooks.acme.example.:8443/a", "https://hooks.acme.example:8443/a"),
        ("https://hooks.acme.example:443/a", "https://hooks.acme.example:443/a"),
        ("https://münchen.example/ü".replace("/ü", "/u"), "https://xn--mnchen-3ya.example/u"),
        ("https://93.184.216.34/hook", "https://93.184.216.34/hook"),
        ("https://[2606:2800:220:1::1]:8443/", "https://[2606:2800:220:1::1]:8443/"),
    ],
)
def test_public_addresses_can_be_registered(url: str, stored: str) -> None:
    assert check_url(url, STRICT) == stored


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.acme.example/",
        "ftp://hooks.acme.example/",
        "file:///etc/passwd",
        "//hooks.acme.example/",
        "hooks.acme.example",
        "",
        "https://",
        "https:///path",
        "https://user@hooks.acme.example/",
        "https://user:pw@hooks.acme.example/",
        "https://@hooks.acme.example/",
        "https://hooks.acme.example/#part",
        "https://hooks.acme.example/#",
        "https://hooks.acme.example:22/",
        "https://hooks.acme.example:80/",
        "https://hooks.acme.example:1023/",
        "https://hooks.acme.example:0/",
        "https://hooks.acme.example:99999/",
        "https://hooks.acme.example:x/",
        "https://hooks.acme.example\\@evil.example/",
        "https://hooks.acme.example/ space",
        "https://hooks.acme.example/\r\nHost: x",
        "https://hooks\t.acme.example/",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://intranet/",
        "https://printer.local/",
        "https://metadata.google.internal/",
        "https://a.localhost/",
        "https://router.home.arpa/",
        "https://-bad.example/",
        "https://a..example/",
        "https://" + "a" * 64 + ".example/",
        "https://a.example/" + "x" * 2048,
        # literal addresses, in every spelling
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0177.0.0.1/",
        "https://0x7f.0.0.1/",
        "https://0x7f000001/",
        "https://017700000001/",
        "https://127.0.0.1./",
        "https://0/",
        "https://0.0.0.0/",
        "https://10.0.0.1/",
        "https://100.64.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://0xa9fea9fe/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://198.18.0.1/",
        "https://203.0.113.1/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://168.63.129.16/",
        "https://8.8.8/",
        "https://08.8.8.8/",
        "https://[::1]/",
        "https://[::]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[0:0:0:0:0:ffff:a9fe:a9fe]/",
        "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[2606:2800:220:1::1%25eth0]/",
        "https://[fc00::1]/",
        "https://[fd00:ec2::254]/",
        "https://[2002:7f00:1::]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[::127.0.0.1]/",
        "https://１２７.0.0.1/",
        "https://①②⑦.⓪.⓪.①/",
        "https://127。0。0。1/",
    ],
)
def test_other_addresses_cannot(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_url(url, STRICT)
    assert refused.value.problems[0].pointer == "/url"
    assert "acme" not in refused.value.problems[0].detail


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104
        "0.1.2.3",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "169.254.169.254",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "100.100.100.200",
        "::",
        "::1",
        "::2",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "2002:a00:1::",
        "2002:c0a8:101::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "not an address",
        "",
    ],
)
def test_addresses_that_are_not_globally_routable_are_never_called(address: str) -> None:
    assert not may_call(address, STRICT)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
)
def test_public_addresses_are_called(address: str) -> None:
    assert may_call(address, STRICT)


@pytest.mark.parametrize(
    ("address", "open_"),
    [
        ("127.0.0.1", True),
        ("127.255.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        # cloud metadata stays closed although the operator's networks hold it
        ("169.254.169.254", False),
        ("::ffff:169.254.169.254", False),
    ],
)
def test_an_operator_can_open_networks_but_never_metadata(address: str, open_: bool) -> None:
    assert may_call(address, TESTS) is open_


def test_everything_allowed_still_leaves_metadata_closed() -> None:
    everything = Rules(allow_networks=Rules.of(WebhookSettings(allow_networks=("0.0.0.0/0", "::/0"))).allow_networks)
    for address in ("169.254.169.254", "fd00:ec2::254", "fe80::1", "168.63.129.16", "100.100.100.200", "192.0.0.192"):
        assert not may_call(address, everything)
    assert may_call("10.0.0.1", everything)


def test_tests_may_use_http_on_loopback() -> None:
    assert check_url("http://127.0.0.1:8081/hook", TESTS) == "http://127.0.0.1:8081/hook"
    with pytest.raises(InvalidInput):
        check_url("http://169.254.169.254/", TESTS)


def test_one_bad_address_among_good_ones_refuses_the_name() -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        return ["8.8.8.8", "127.0.0.1"]

    with pytest.raises(RefusedAddress):
        callable_addresses("rebind.example", 443, STRICT, resolve)


def test_a_name_is_resolved_once_and_its_addresses_are_what_comes_back() -> None:
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["8.8.8.8", "8.8.8.8", "2606:2800:220:1::1"]

    assert callable_addresses("a.example", 443, STRICT, resolve) == ("8.8.8.8", "2606:2800:220:1::1")
    assert asked == [("a.example", 443)]


def test_a_name_without_addresses_cannot_be_called() -> None:
    with pytest.raises(OSError, match="no address"):
        callable_addresses("a.example", 443, STRICT, lambda _host, _port: [])


@settings(deadline=None)
@given(
    st.sampled_from(["", "https://", "https://hooks.acme.example", "https://hooks.acme.example/", "https://[::"]),
    st.text() | st.text(st.sampled_from("\r\n\t\0 @#?%/:[]\\\x1b\u202e。１.a")),
)
def test_any_text_is_refused_or_becomes_an_address_that_fits_on_one_line(beginning: str, text: str) -> None:
    try:
        stored = check_url(beginning + text, STRICT)
    except InvalidInput:
        return
    assert stored.startswith("https://")
    assert stored.isascii()
    assert stored.isprintable()
    assert " " not in stored
    assert check_url(stored, STRICT) == stored
