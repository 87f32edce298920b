"""The rules of refreshing: how often, who may repeat a refresh, and for how long. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from sidecar.wire.client_address import client_of, parse_address

if TYPE_CHECKING:
    from sidecar.api.grants import ClientInfo
    from sidecar.auth.session import RefreshRecord

# Seconds for which a used record outlives its grace: the pods' clocks may differ by that much, and
# the request that used the token may still be writing its successor.
_MARGIN: Final = 5.0


class GraceClient(StrEnum):
    """What makes two clients the same one, to which a refresh may be repeated."""

    ADDRESS_AGENT = "address+agent"
    ADDRESS = "address"
    AGENT = "agent"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshPolicy:
    """The rules in use. `grace`, `min_interval` and `access_grace` are in seconds.

    Within `grace` after a token was used, the client that used it gets the same pair again, at most
    `repeats` times. Two refreshes of one login are at least `min_interval` apart. The access token
    of before counts for `access_grace` more.
    """

    grace: float = 10.0
    client: GraceClient = GraceClient.ADDRESS_AGENT
    repeats: int = 10
    min_interval: float = 1.0
    access_grace: float = 10.0

    def wait(self, record: RefreshRecord, now: float) -> float:
        """Seconds until this token may be used. The first refresh after a login need not wait."""
        age = now - record.issued
        # A token of the future: the clock that issued it is ahead, or this one was set back.
        if record.generation == 0 or not -self.min_interval < age < self.min_interval:
            return 0.0
        return self.min_interval - max(age, 0.0)

    def in_grace(self, used_at: float, now: float) -> bool:
        """Whether a token that was used then may be repeated now."""
        # A use in the future means that the clock was set back; its true age is unknown.
        return self.grace > 0 and abs(now - used_at) <= self.grace

    def forgotten_at(self, used_at: float) -> float:
        """When the record of a token that was used then expires."""
        return used_at + self.grace + _MARGIN

    def identity(self, client: ClientInfo) -> bytes:
        """What must be equal when a refresh is repeated."""
        by_address = self.client in {GraceClient.ADDRESS_AGENT, GraceClient.ADDRESS}
        by_agent = self.client in {GraceClient.ADDRESS_AGENT, GraceClient.AGENT}
        site = client_of(parse_address(client.address)) or client.address
        address = site if by_address else ""
        agent = client.user_agent if by_agent else ""
        return f"{address}\0{agent}".encode("utf-8", "surrogatepass")
