"""The exceptions of this program. Denying a request is not a fault: see `auth.reason`.

SidecarError
├── ConfigError              our fault: the configuration is unusable; carries every problem found
├── PeerError                the client's fault: it broke the protocol
├── StoreError               a fault of the session store
│   └── StoreUnavailable     the store cannot be reached; says nothing about any session
└── UpstreamError            a fault of the upstream
    ├── UpstreamRefused      no connection could be opened
    ├── UpstreamBusy         no connection became free in time
    ├── UpstreamTimeout      no response head arrived in time
    └── UpstreamBroken       the connection broke, or the response is not HTTP/1.1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class SidecarError(Exception):
    """Base class of all exceptions that this program defines."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One configuration error: the place of the value, and a message about it."""

    where: str
    message: str  # a whole statement, such as `expected a port; got "x"`

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True, slots=True)
class ConfigWarning:
    """A configuration that is valid but hardly meant: its place, what follows, and the way out."""

    where: str
    message: str  # a whole statement without secrets, such as `nobody can log in: …`
    remedy: str  # an instruction, such as `set users_file`

    def __str__(self) -> str:
        return f"{self.where}: {self.message}; {self.remedy}"


class ConfigError(SidecarError):
    """The configuration is unusable; `problems` lists every problem found, in order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class PeerError(SidecarError):
    """The client broke the protocol. It is answered with `status`, and its connection closed."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(detail)


class StoreError(SidecarError):
    """Base class for faults of the session store."""


class StoreUnavailable(StoreError):
    """The session store cannot be reached. A session that does not exist is `None` instead."""


class UpstreamError(SidecarError):
    """Base class for faults of the upstream: `status` is sent to the client, `word` is logged."""

    status = 502
    word = "upstream_error"


class UpstreamRefused(UpstreamError):
    """No connection to the upstream could be opened."""

    status = 503
    word = "upstream_refused"


class UpstreamBusy(UpstreamError):
    """Every upstream connection was in use, and none became free in time."""

    status = 503
    word = "upstream_busy"


class UpstreamTimeout(UpstreamError):
    """The upstream did not send a response head in time."""

    status = 504
    word = "upstream_timeout"


class UpstreamBroken(UpstreamError):
    """The upstream connection broke before the response, or the response is not HTTP/1.1."""

    word = "upstream_broken"
