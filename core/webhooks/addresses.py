"""Where webhooks may go: rules for URLs when they are registered, and for addresses each time one is called.

A name can be pointed elsewhere after it was registered, so the address is checked at every send, and the connection
goes to the address that was checked.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

import idna

from core.platform.errors import InvalidInput, Problem
from core.platform.settings import WebhookSettings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Sequence[str]]

_LONGEST_URL: Final = 2048
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC: Final = re.compile(r"\d+|0x[0-9a-f]*")
_LOCAL_ZONES: Final = ("local", "internal", "localhost", "home.arpa", "lan", "intranet", "corp", "home", "localdomain")

_NEVER: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local, with the metadata service of AWS, Azure, Google and others
        "fe80::/10",
        "fd00:ec2::254/128",  # AWS by IPv6
        "fd20:ce::254/128",  # Google by IPv6
        "100.100.100.200/32",  # Alibaba
        "192.0.0.192/32",  # Oracle
        "168.63.129.16/32",  # Azure's wire server, a public address
        "0.0.0.0/8",
        "::/128",
    )
)
"""Not even an operator's allow-list opens these."""

_CLOSED: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::1/128",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fec0::/10",
        "ff00::/8",
    )
)
"""Not globally routable, beside what the standard library knows."""

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
_IPV4_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")


class RefusedAddress(Exception):
    """The address is not one that may be called. Towards tenants this looks like any failure to connect."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator allows beyond the ordinary."""

    allow_http: bool = False
    allow_networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, settings: WebhookSettings) -> "Rules":
        """Raises ``ValueError`` when a network in the settings cannot be read."""
        return cls(settings.allow_http, tuple(ipaddress.ip_network(network) for network in settings.allow_networks))


def check_url(url: str, rules: Rules) -> str:
    """``url`` in the form that is stored and called. Raises ``InvalidInput`` (at ``/url``) when it is refused."""
    parts = _split(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and rules.allow_http):
        raise _refused("The address must begin with https://.")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise _refused("The address must not hold a user name or password.")
    if "#" in url:
        raise _refused("The address must not have a fragment.")
    port = _port(parts, rules)
    host = _host(parts.hostname or "", rules)
    place = host if port is None else f"{host}:{port}"
    path = parts.path or "/"
    return f"{parts.scheme}://{place}{path}" + (f"?{parts.query}" if parts.query else "")


def callable_addresses(host: str, port: int, rules: Rules, resolve: Resolve | None = None) -> tuple[str, ...]:
    """All addresses of ``host``, each of which may be called; resolved once.

    Raises ``RefusedAddress`` when even one of them may not, and ``OSError`` when the name does not resolve.
    """
    found = (resolve or system_resolve)(host, port)
    addresses = tuple(dict.fromkeys(found))
    if not addresses:
        raise OSError("the name has no address")
    for address in addresses:
        if not may_call(address, rules):
            raise RefusedAddress(host)
    return addresses


def system_resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name by the system's resolver. Raises ``OSError``."""
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def may_call(address: str, rules: Rules) -> bool:
    """Whether an IP address, and each that it embeds, is globally routable or expressly allowed."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.scope_id is not None:
        return False
    return all(_open(one, rules) for one in _embedded(parsed))


def never_called(host: str) -> bool:
    """Whether ``host`` is a literal address, in any spelling, that no setting opens: link-local, metadata and such."""
    name = host.strip("[]").partition("%")[0].rstrip(".")
    try:
        parsed = ipaddress.ip_address(name)
    except ValueError:
        try:
            parsed = ipaddress.ip_address(socket.inet_ntoa(socket.inet_aton(name)))  # decimal, octal, hex, shortened
        except (OSError, ValueError):
            return False
    return any(one in network for one in _embedded(parsed) for network in _NEVER)


def _open(address: Address, rules: Rules) -> bool:
    if any(address in network for network in _NEVER):
        return False
    if any(address in network for network in rules.allow_networks):
        return True
    special = (
        address.is_private
        or address.is_loopback
        or address.is_multicast
        or address.is_reserved
        or address.is_unspecified
    )
    return address.is_global and not special and not any(address in network for network in _CLOSED)


def _embedded(address: Address) -> tuple[Address, ...]:
    """What stands in the address: the IPv4 addresses of transition forms, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return (*address.teredo, address)  # itself is in 2001::/23, so Teredo is never called
    last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _NAT64:
        return (last,)
    if address in _LOCAL_NAT64 or (address in _IPV4_COMPATIBLE and int(address) > 1):
        return (last, ipaddress.IPv6Address("::"))  # no public use: always refused
    return (address,)


def _split(url: str) -> SplitResult:
    if len(url) > _LONGEST_URL:
        raise _refused(f"The address may have at most {_LONGEST_URL} characters.")
    try:
        ascii_url = url if url.isascii() else _with_ascii_host(url)
        parts = urlsplit(ascii_url)
        _ = parts.hostname, parts.port  # both raise ValueError when they cannot be read
    except ValueError:
        raise _refused("The address cannot be read.") from None
    if not _PRINTABLE.fullmatch(ascii_url) or "\\" in ascii_url or not parts.hostname:
        raise _refused("The address cannot be read.")
    return parts


def _with_ascii_host(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    encoded = idna.encode(host, uts46=True).decode()  # IDNAError is a ValueError
    return url.replace(host, encoded, 1) if host in url else url


def _port(parts: SplitResult, rules: Rules) -> int | None:
    port = parts.port
    if port is None or port == 443 or port >= 1024 or (port == 80 and rules.allow_http):
        return port
    raise _refused("The port must be 443 or from 1024.")


def _host(host: str, rules: Rules) -> str:
    name = host.lower().removesuffix(".")
    if ":" in name or "%" in name:
        return f"[{_literal(name, rules)}]"
    labels = name.split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        return _literal(name, rules)
    if not all(_LABEL.fullmatch(label) for label in labels) or len(name) > 253:
        raise _refused("The host name is not valid.")
    if len(labels) < 2 or any(name.endswith(f".{zone}") for zone in _LOCAL_ZONES):
        raise _refused("The host must be a public name.")
    return name


def _literal(host: str, rules: Rules) -> str:
    # ip_address knows neither decimal, octal, hexadecimal nor shortened IPv4: those are refused here.
    if not may_call(host, rules):
        raise _refused("The host must be a public name or address.")
    return str(ipaddress.ip_address(host))


def _refused(detail: str) -> InvalidInput:
    return InvalidInput("The address cannot be a webhook endpoint.", [Problem("/url", "bad_url", detail)])
