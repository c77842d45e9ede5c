"""Failures of ours are told apart for the disabling rule, and look like any other towards the tenant."""

import errno
import socket

import pytest

from core.platform.settings import WebhookSettings
from core.webhooks.sending import HttpSender

SETTINGS = WebhookSettings()


def _answer_when_resolving_raises(error: OSError) -> tuple[str | None, bool]:
    def resolve(_host: str, _port: int) -> list[str]:
        raise error

    answer = HttpSender(SETTINGS, resolve=resolve)("https://hooks.example.org/", {}, b"{}")
    return answer.error, answer.ours


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_AGAIN, "the resolver is away"),
        OSError(errno.ENETUNREACH, "no network"),
        OSError(errno.EMFILE, "too many open files"),
    ],
)
def test_a_resolver_or_network_that_is_down_is_ours(error: OSError) -> None:
    assert _answer_when_resolving_raises(error) == ("unreachable", True)


@pytest.mark.parametrize(
    "error", [socket.gaierror(socket.EAI_NONAME, "no such name"), ConnectionRefusedError(errno.ECONNREFUSED, "refused")]
)
def test_a_name_that_is_gone_or_nobody_who_listens_is_theirs(error: OSError) -> None:
    assert _answer_when_resolving_raises(error) == ("unreachable", False)


def test_so_is_an_address_that_is_refused() -> None:
    answer = HttpSender(SETTINGS, resolve=lambda *_: ["10.0.0.1"])("https://hooks.example.org/", {}, b"{}")
    assert (answer.error, answer.ours) == ("unreachable", False)
