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
from enum import StrEnum
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


class Malformed(StrEnum):
    """What is wrong with a message that cannot be served: metric label, log field, and answer."""

    NOT_HTTP = "not_http"  # its first octet begins no method: a TLS handshake, or white space
    LINE_ENDING = "line_ending"  # a line ends with LF alone, or an empty line is in the wrong place
    REQUEST_LINE = "request_line"
    METHOD = "method"  # malformed, not in upper case, or CONNECT or TRACE
    VERSION = "version"  # other than HTTP/1.0 and HTTP/1.1
    TARGET = "target"  # neither a path nor an http URL
    PATH = "path"  # two servers could read it differently
    QUERY = "query"
    HEAD_SIZE = "head_size"  # the head, or its request line, is over MAX_HEAD_SIZE
    HEADER_COUNT = "header_count"
    HEADER_NAME = "header_name"
    HEADER_LINE = "header_line"  # no colon, or a control character in the value
    HOST = "host"  # missing, repeated, malformed, or other than that of the target
    CONTENT_LENGTH = "content_length"
    TRANSFER_ENCODING = "transfer_encoding"
    CONNECTION = "connection"  # names a header that is not hop-by-hop
    MAX_FORWARDS = "max_forwards"
    CHUNK = "chunk"  # of the body: its size line, or data beyond its size
    TRAILER = "trailer"
    INCOMPLETE = "incomplete"  # the head did not arrive in time

    @property
    def label(self) -> str:
        """The word for metrics and logs, as `auth.reason.Reason` has it."""
        return self.value


class PeerError(SidecarError):
    """A peer broke the protocol. A client is answered with `status`, and its connection closed.

    `detail` and `reason` say what is wrong, without any byte of the peer's.
    """

    def __init__(self, status: int, detail: str, reason: Malformed) -> None:
        self.status = status
        self.detail = detail
        self.reason = reason
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
