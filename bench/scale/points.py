"""What is measured, as plain values: each class is one kind of point.

CPU is that of the Redis process. Must not know how anything is measured or shown.
"""

from __future__ import annotations

import msgspec

from bench.machine import Machine


class Rest(msgspec.Struct, frozen=True):
    """So many pods that only ping: the share of a core that Redis uses, and its memory."""

    pods: int
    connections: int
    cpu: float
    memory: int


class Write(msgspec.Struct, frozen=True):
    """What one operation costs: `kind` is login, refresh, logout or expiry; `cpu` in µs.

    `pods` is how many pods track the key that it changes, of `connected` pods.
    """

    kind: str
    connected: int
    pods: int
    cpu: float


class Lookup(msgspec.Struct, frozen=True):
    """Sessions read for the first time, `batch` at once: µs of CPU for each command.

    With `seen`, the pods also record that the logins were seen.
    """

    batch: int
    seen: bool
    cpu: float


class Delivery(msgspec.Struct, frozen=True):
    """Milliseconds from a DEL to its receipt by so many pods, over all pods and all DELs.

    `last` is the median of the receipts by the last pod.
    """

    pods: int
    changes: int
    p50: float
    p99: float
    most: float
    last: float


class Table(msgspec.Struct, frozen=True):
    """So many keys, each tracked by so many pods: the bytes of memory that this takes."""

    keys: int
    pods: int
    size: int


class Stored(msgspec.Struct, frozen=True):
    """So many logins with all their keys: the bytes of memory that they take."""

    logins: int
    size: int


class Overflow(msgspec.Struct, frozen=True, kw_only=True):
    """Requests with `sessions` sessions at all pods, while the table may have `limit` keys.

    `limit` 0 is none. `tracked` is the number of keys in the table; rates are per second.
    """

    limit: int
    sessions: int
    pods: int
    tracked: int
    requests: float
    reads: float
    invalidations: float
    cpu: float


class Storm(msgspec.Struct, frozen=True, kw_only=True):
    """All pods start at once, and each reads `reads` sessions.

    `ready` is when the last of them tracks Redis, `warm` when the last has read, in seconds; `cpu`
    is in seconds. `peak` is the most commands of a tenth of a second, per second. `late` is the
    share of sessions whose look-up took longer than REDIS_TIMEOUT, `silent` the number of pings
    after which a sidecar would have given its connection up.
    """

    pods: int
    reads: int
    ready: float
    warm: float
    cpu: float
    peak: float
    late: float
    silent: int


class Failover(msgspec.Struct, frozen=True, kw_only=True):
    """Redis is killed and its replica promoted, under requests at all pods with warm caches.

    `before` and `after` are sessions read per second: just before, and in each second from the
    promotion on. `tracking` is how many seconds after it the last pod tracks again. `local` counts
    requests that found no Redis, `untracked` the sessions read while nothing was tracked. `peak`
    is the most commands of a tenth of a second, per second; `busiest` the share of a core.
    """

    pods: int
    sessions: int
    rate: float
    before: float
    after: list[float]
    tracking: float
    local: int
    untracked: int
    peak: float
    busiest: float


class Points(msgspec.Struct, kw_only=True):
    """All that a run measured. `unit` is the µs of CPU of one GET, by redis-benchmark."""

    unit: float = 0.0
    rests: list[Rest] = []
    writes: list[Write] = []
    lookups: list[Lookup] = []
    deliveries: list[Delivery] = []
    tables: list[Table] = []
    stored: list[Stored] = []
    overflows: list[Overflow] = []
    storms: list[Storm] = []
    failovers: list[Failover] = []


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run: when, how and where its points were measured."""

    date: str
    command: str
    machine: Machine
    others: float
    stolen: float
    points: Points
