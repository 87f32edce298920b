"""What all connections and requests of one data plane share, made once at start.

Holds plain references and prepared bytes. A reload replaces the part that `DataPlaneConfig` lists.
"""

from __future__ import annotations

import itertools
import ssl  # noqa: TC003 (looked up by a compiled dataclass, as are some of the following)
import sys
from collections.abc import Mapping, Sequence  # noqa: TC003 (looked up by a compiled dataclass)
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network  # noqa: TC003
from typing import TYPE_CHECKING, Final

from sidecar.auth.cors import NO_CORS, CorsPolicy
from sidecar.auth.credentials import CredentialFilter
from sidecar.auth.routes import RouteTable  # noqa: TC001
from sidecar.proxy.admission import Admission
from sidecar.proxy.held import HeldOctets
from sidecar.telemetry.log_limit import LogLimit
from sidecar.wire.client_address import NamedClients
from sidecar.wire.head import HeadLimits
from sidecar.wire.replies import DOCUMENTS, ReplyTemplate

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

    from sidecar.auth.gate import Gate
    from sidecar.issuers.key_waiters import KeyWaiters
    from sidecar.proxy.session_watch import SessionWatcher
    from sidecar.proxy.upstream_pool import UpstreamPool
    from sidecar.proxy.verify import VerifyEndpoint
    from sidecar.sessions.store import SessionStore
    from sidecar.tasks import Tasks
    from sidecar.telemetry.access_log import AccessLog
    from sidecar.telemetry.metrics import Metrics, RouteMetrics
    from sidecar.wire.field_lines import FieldLines
    from sidecar.wire.head import RequestHead
    from sidecar.wire.target import TargetParser

# Octets that all client connections together keep: of heads, logins and pipelined requests that are
# not complete; of heads that were complete and may be repeated; of request bodies that wait for
# their session, their rest or an upstream connection.
UNFINISHED: Final = 4 * 1024 * 1024
REMEMBERED: Final = 24 * 1024 * 1024
BUFFERED: Final = 32 * 1024 * 1024
_SUFFIXES: Final = tuple(b"%03x" % number for number in range(4096))


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a client may ask and how long anything may take. Times are seconds."""

    head: HeadLimits = field(default_factory=HeadLimits)
    header_timeout: float = 10.0  # from a request's first byte to its empty line
    idle_timeout: float = 75.0  # between requests
    upstream_timeout: float = 60.0  # from the request's last byte to the answer's head
    queue_timeout: float = 5.0  # for an upstream connection
    connections: int = 20_000  # from clients; 0 is no bound
    per_address: int = 5_000  # connections or proxied requests of one client; 0 is no bound
    makes_room: bool = False  # over `connections`, the one that has waited longest is closed
    requests: int = sys.maxsize  # in flight at once
    body_grace: float = 20.0  # for a request's body to begin; it may be this far behind its rate
    body_rate: float = 500.0  # octets a second of a request's body; 0 is no bound
    body_buffer: int = 64 * 1024  # octets of a body that must arrive before it is forwarded
    backlog: int = 64 * 1024  # octets of pipelined requests kept while one is answered
    form_size: int = 64 * 1024  # octets of a body for the control plane
    form_timeout: float = 10.0  # for a body for the control plane to arrive
    linger: float = 2.0  # for a client to read its last answer; what it still sends is dropped
    send_timeout: float = 30.0  # that the peer of a connection may be behind in reading
    send_rate: float = 500.0  # octets a second it must read; 0: any at all in `send_timeout`
    half_closed: float = 2.5  # for an answer to begin after the client has closed its side


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPlaneConfig:
    """What a reload may change in the data plane: made by one function, applied as a whole."""

    routes: RouteTable
    limits: Limits = field(default_factory=Limits)
    trusted_proxies: Sequence[IPv4Network | IPv6Network] = ()
    tls: ssl.SSLContext | None = None  # of the listener; None: plain HTTP
    login_url: bytes = b""  # the sign-in page of a browser; empty: none
    cache_control: bytes = b""  # added to an authenticated answer without Cache-Control; its line
    pages: Mapping[int, ReplyTemplate] = field(default_factory=lambda: DOCUMENTS)  # errors as HTML
    cors: CorsPolicy = NO_CORS  # of the sidecar's own answers


class DataPlaneContext:
    """The data plane's collaborators, and each field of its `DataPlaneConfig` as an attribute.

    The request path reads those fields for every request, so they are here and not one attribute
    further away. `apply` sets them, when the context is made and at every reload.
    """

    __slots__ = (
        *("admission", "clients", "draining", "remembered", "unfinished", "via"),
        *("access_log", "clear_cookie", "credentials", "fields", "gate", "keys", "log"),
        *("log_all", "log_limit", "malformed", "metrics", "paths", "request_ids"),
        *("route_metrics", "session_watcher", "staged", "store", "tasks", "upstreams", "verify"),
        *("cache_control", "cors", "limits", "login_url", "pages", "routes", "tls"),
        "trusted_proxies",
    )
    routes: RouteTable  # this and the next seven: see `DataPlaneConfig`
    limits: Limits
    trusted_proxies: Sequence[IPv4Network | IPv6Network]
    tls: ssl.SSLContext | None
    login_url: bytes
    cache_control: bytes
    pages: Mapping[int, ReplyTemplate]
    cors: CorsPolicy

    def __init__(
        self,
        config: DataPlaneConfig,
        *,
        gate: Gate,
        store: SessionStore,
        upstreams: Mapping[str, UpstreamPool],  # by `Route.target`
        route_metrics: Mapping[str, RouteMetrics],  # by the route's name
        malformed: RouteMetrics,  # requests refused before they had a route
        metrics: Metrics,
        tasks: Tasks,
        log: logging.Logger,
        fields: FieldLines,  # of requests
        paths: TargetParser,
        verify: VerifyEndpoint,
        request_ids: Iterator[bytes],
        credentials: CredentialFilter | None = None,
        clear_cookie: bytes = b"",  # the header line that deletes the session cookie
        access_log: AccessLog | None = None,
        log_all: bool = False,  # log allowed requests too
        keys: KeyWaiters | None = None,  # fetches keys that tokens name and that are unknown
        session_watcher: SessionWatcher | None = None,  # ends streams with their session
    ) -> None:
        self.gate = gate
        self.store = store
        self.upstreams = upstreams
        self.route_metrics = route_metrics
        self.malformed = malformed
        self.metrics = metrics
        self.tasks = tasks
        self.log = log
        self.fields = fields
        self.paths = paths
        self.verify = verify
        self.request_ids = request_ids
        self.credentials = credentials or CredentialFilter(b"__Host-session")
        self.clear_cookie = clear_cookie
        self.access_log = access_log
        self.log_all = log_all
        self.keys = keys
        self.session_watcher = session_watcher
        self.draining = False
        self.admission = Admission(metrics)
        self.clients = NamedClients(config.trusted_proxies)  # by their X-Forwarded-For
        self.log_limit = LogLimit()  # of lines that any client can cause
        self.staged = HeldOctets(BUFFERED)  # of bodies
        self.unfinished = HeldOctets(UNFINISHED)
        self.remembered = HeldOctets(REMEMBERED)
        # By the minor version of the request (RFC 9110 section 7.6.3), with the next line's name
        self.via = (
            b"Via: 1.0 sidecar\r\nX-Request-Id: ",
            b"Via: 1.1 sidecar\r\nX-Request-Id: ",
        )
        self.paths.passes_escapes = self._passes_escapes
        self.apply(config)

    def __repr__(self) -> str:
        return f"<DataPlaneContext to {', '.join(self.upstreams)} draining={self.draining}>"

    def _passes_escapes(self, head: RequestHead, path: str) -> bool:
        return self.verify.passes_escapes(self.routes, head, path)

    def apply(self, config: DataPlaneConfig) -> None:
        """Use every field of this configuration, from the next request on."""
        for each in fields(config):
            setattr(self, each.name, getattr(config, each.name))
        self.clients = NamedClients(self.trusted_proxies)


def make_request_ids(prefix: bytes) -> Iterator[bytes]:
    """Yield request ids without end, unique if the prefix is (0.1 µs each; formatting: 0.5 µs)."""
    for block in itertools.count():
        start = b"%b-%x" % (prefix, block)
        for end in _SUFFIXES:
            yield start + end
