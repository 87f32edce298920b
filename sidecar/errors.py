"""The faults of this program, as one tree. A denied request is none: it is a value (`auth.reason`).

SidecarError
├── ConfigError              ours: the configuration cannot be used; carries every problem at once
├── PeerError                the client's: its bytes break the protocol
├── StoreError               the session store's
│   └── StoreUnavailable     the store cannot be asked now; says nothing about any session
└── UpstreamError            the upstream's
    ├── UpstreamRefused      no connection could be made
    ├── UpstreamBusy         no connection was free in time
    ├── UpstreamTimeout      no response head in time
    └── UpstreamBroken       the connection broke, or the answer is not HTTP
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class SidecarError(Exception):
    """Root of every fault raised here."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration: where it stands and what was expected there."""

    where: str
    expected: str

    def __str__(self) -> str:
        return f"{self.where}: {self.expected}"


class ConfigError(SidecarError):
    """The configuration cannot be used; `problems` lists all of them, not just the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class PeerError(SidecarError):
    """The client broke the protocol; `status` answers it and the connection is closed."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(detail)


class StoreError(SidecarError):
    """A fault of the session store."""


class StoreUnavailable(StoreError):
    """The store cannot be asked now. An absent session is `None`, never this."""


class UpstreamError(SidecarError):
    """A fault of the upstream; `status` answers the client, `word` names it in logs."""

    status = 502
    word = "upstream_error"


class UpstreamRefused(UpstreamError):
    """No connection to the upstream could be made."""

    status = 503
    word = "upstream_refused"


class UpstreamBusy(UpstreamError):
    """Every upstream connection is taken and none came free in time."""

    status = 503
    word = "upstream_busy"


class UpstreamTimeout(UpstreamError):
    """The upstream did not send a response head in time."""

    status = 504
    word = "upstream_timeout"


class UpstreamBroken(UpstreamError):
    """The upstream's connection broke before its answer, or its answer is not HTTP/1.1."""

    word = "upstream_broken"
