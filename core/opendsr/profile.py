"""What the settings say about this processor, in the form in which the rest of the slice uses it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from core.opendsr.parsing import Rules
from core.platform.settings import Settings
from core.policies.regulations import BUILT_IN

SHORTEST_HOLD_S: Final = 2
SANDBOX_HOLD_S: Final = 5
"""In test mode, of requests that ask for no other."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One processor: what it is called, where it is reached, and what it promises."""

    domain: str
    public_url: str
    hold_s: float
    max_hold_s: float
    service_level: timedelta
    regulations: Mapping[str, int]
    """Further laws and their terms in days."""
    max_ids: int
    max_open: int
    """Native requests of a workspace that have not ended."""
    allow_http: bool

    @classmethod
    def of(cls, settings: Settings) -> "Profile":
        """That of these settings."""
        own = settings.opendsr
        return cls(
            domain=settings.processor_domain,
            public_url=settings.public_url,
            hold_s=own.hold_s,
            max_hold_s=own.max_hold_s,
            service_level=timedelta(seconds=own.service_level_s),
            regulations=own.regulations,
            max_ids=settings.api.max_ids_per_request,
            max_open=settings.api.max_open_requests,
            allow_http=settings.webhooks.allow_http,
        )

    def rules(self, *, legacy: bool) -> Rules:
        """The rules for bodies of create requests."""
        return Rules(
            domain=self.domain,
            regulations=frozenset({*BUILT_IN, *self.regulations}),
            max_hold_s=self.max_hold_s,
            max_ids=self.max_ids,
            allow_http=self.allow_http,
            legacy=legacy,
        )

    def hold(self, asked_s: int | None, *, sandbox: bool = False) -> timedelta:
        """How long a request stays pending: as asked, and never too short to be cancelled."""
        unasked_s = SANDBOX_HOLD_S if sandbox else self.hold_s
        return timedelta(seconds=max(SHORTEST_HOLD_S, unasked_s if asked_s is None else asked_s))
