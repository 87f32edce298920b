"""The counters of this process.

They are plain integers, because the hot path adds to them (`+= 1` on a dict entry costs 0.05 µs, on
a child of prometheus_client 0.5 µs); `exposition` reads them at scrape time. Label values come from
the configuration or from enums, never from a request. Knows neither its callers nor HTTP.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.errors import Malformed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sized

# Seconds. The first two separate local look-ups from those that went to Redis.
BOUNDS: Final[tuple[float, ...]] = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_LE: Final[tuple[str, ...]] = (*map(str, BOUNDS), "+Inf")


class Histogram:
    """Counts durations by the `BOUNDS` that they fall between, and sums them in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)  # the last one is for longer durations
        self.total = 0.0

    def __repr__(self) -> str:
        return f"<Histogram {sum(self.counts)} observed, {self.total:.6f} s>"

    def observe(self, seconds: float) -> None:
        """Count one duration. A bound includes its own value, as `le` does in Prometheus."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound."""
        return list(zip(_LE, accumulate(self.counts), strict=True))


class RouteMetrics:
    """The counters of one route; `codes` counts the status codes that clients got."""

    __slots__ = ("codes", "duration", "name", "upstream")

    def __init__(self, name: str) -> None:
        self.name = name
        self.codes: dict[int, int] = defaultdict(int)
        self.duration = Histogram()
        self.upstream = Histogram()

    def __repr__(self) -> str:
        return f"<RouteMetrics {self.name} {sum(self.codes.values())} requests>"

    def count(self, code: int, seconds: float, upstream_seconds: float) -> None:
        """Count a request that was answered; `upstream_seconds` is 0 if no upstream answered.

        Every request comes here, so `Histogram.observe` is written out: two calls less.
        """
        self.codes[code] += 1
        duration = self.duration
        duration.counts[bisect_left(BOUNDS, seconds)] += 1
        duration.total += seconds
        if upstream_seconds:
            upstream = self.upstream
            upstream.counts[bisect_left(BOUNDS, upstream_seconds)] += 1
            upstream.total += upstream_seconds


class NearCacheFigures(Protocol):
    """What the near cache of sessions reports."""

    invalidations: int
    flushes: int

    def __len__(self) -> int:
        """How many logins the cache holds."""

    @property
    def coherent(self) -> bool:
        """Whether the cache may answer, because invalidations are arriving."""

    @property
    def staleness(self) -> float:
        """Seconds since Redis was last known to report changes."""


class BufferFigures(Protocol):
    """How much is kept of what waits."""

    total: int  # octets


class UploadFigures(Protocol):
    """What the connections to the application report about requests with unfinished bodies."""

    @property
    def admitted(self) -> Sized:
        """Those that have a connection."""

    @property
    def waiting(self) -> Sized:
        """Those that wait for one."""


class JournalFigures(Protocol):
    """What the journal of revocations that Redis has not received reports."""

    broken: bool
    dropped: int

    def __len__(self) -> int:
        """How many revocations are in the journal."""


class Metrics:
    """All counters of this process: plain fields that callers add to in place.

    `reasons` are the labels of all possible denials, so that their series start at zero: a counter
    that first appears with 1 shows no increase. `breaker_states` are the labels of the session
    store's breaker, beginning with the state that it starts in.
    """

    __slots__ = (
        "_routes",
        "access_log_dropped",
        "allowed",
        "body_buffer",
        "breaker_state",
        "breaker_states",
        "certificates",
        "clients_refused",
        "connections",
        "degraded",
        "denied",
        "handshakes",
        "in_flight",
        "journal",
        "logins",
        "lookup_duration",
        "lookups",
        "malformed",
        "near",
        "preflights",
        "redis_credentials",
        "reload_failed",
        "reloaded",
        "reloads",
        "transitions",
        "uploads",
    )

    def __init__(self, reasons: Iterable[str] = (), breaker_states: Iterable[str] = ()) -> None:
        self._routes: dict[str, RouteMetrics] = {}
        self.allowed = 0
        self.preflights = 0  # those of `allowed` that passed without credentials
        self.denied: dict[str, int] = defaultdict(int, dict.fromkeys(reasons, 0))
        # Requests refused because the message is not in order, by what is wrong with it.
        self.malformed: dict[str, int] = dict.fromkeys(Malformed, 0)
        self.lookups: dict[tuple[str, str], int] = defaultdict(int)  # by (source, result)
        self.lookup_duration: dict[str, Histogram] = defaultdict(Histogram)  # by source
        self.logins: dict[tuple[str, str], int] = defaultdict(int)  # by (method, result)
        self.connections: dict[str, int] = {"downstream": 0, "upstream": 0}  # open now
        # Connections and requests refused because of what clients have open, by the limit.
        self.clients_refused = {"connections": 0, "address": 0, "unfinished": 0}
        # TLS handshakes with clients, by outcome.
        self.handshakes = {"ok": 0, "failed": 0, "aborted": 0}
        # When each certificate expires (seconds since the epoch), by the setting that names it.
        self.certificates: Mapping[str, float] = {}
        self.reloads = {"success": 0, "failure": 0}  # of the configuration
        self.reload_failed = False  # the last reload failed
        self.reloaded = time.time()  # when the configuration in use was read
        self.in_flight = 0
        self.degraded = 0  # 1 while the session store cannot be used
        self.breaker_states = tuple(breaker_states)
        self.breaker_state = next(iter(self.breaker_states), "")
        self.transitions: dict[str, int] = {"degraded": 0, "shared": 0}  # by the new state
        # Redis' credentials: renewed, not available from their source, or refused by Redis.
        self.redis_credentials = {"renewed": 0, "failed": 0, "refused": 0}
        self.near: NearCacheFigures | None = None
        self.journal: JournalFigures | None = None
        self.body_buffer: BufferFigures | None = None  # in octets
        self.uploads: UploadFigures | None = None
        self.access_log_dropped = 0

    def __repr__(self) -> str:
        denied = sum(self.denied.values())
        return f"<Metrics {self.allowed} allowed, {denied} denied, {self.in_flight} in flight>"

    def route(self, name: str) -> RouteMetrics:
        """The counters of a route, made at the first call and kept across reloads."""
        found = self._routes.get(name)
        if found is None:
            found = self._routes[name] = RouteMetrics(name)
        return found

    @property
    def routes(self) -> Mapping[str, RouteMetrics]:
        """The counters of all routes, by the route's name."""
        return self._routes
