"""What the model says for sizes that were not measured, and what to set there. Owns text only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bench.report import significant, table
from bench.scale import model as fitted
from bench.scale.model import Load
from bench.scale.population import PodCommands
from sidecar.sessions.redis.connect import RedisConfig
from sidecar.sessions.redis.guess_counters import CONNECTIONS

if TYPE_CHECKING:
    from bench.scale.model import Model
    from bench.scale.points import Points

MIB, GIB = 1 << 20, 1 << 30
# Connections of a pod at rest: that of look-ups, and one of the store. Under load, with logins, the
# pools of the store and of the counters of login attempts are full.
AT_REST, AT_MOST = 2, 1 + RedisConfig().max_connections + CONNECTIONS
SIZES = (
    Load(100, 100_000),
    Load(1_000, 1_000_000),
    Load(1_000, 10_000_000),
    Load(10_000, 10_000_000),
    Load(10_000, 50_000_000),
)
FLEETS = (10, 100, 1_000, 3_000, 10_000, 30_000)
DEFAULT_CLIENTS, DEFAULT_KEYS = 10_000, 1_000_000  # maxclients, tracking-table-max-keys
SPARE = 1.25  # how much more than needed a limit should allow


PRIMARIES = (
    f"`primaries` is how many a cluster needs so that each stays below {fitted.RESTED:.0%} of a "
    "core; 1 is a single Redis, and `none` says that pings alone take more. No number of primaries "
    "helps then, because every pod pings every primary."
)
LIMITS = (
    f"What to set on each Redis for these sizes. The limits allow {SPARE - 1:.0%} more than is "
    f"needed: {AT_MOST} connections for each pod under load ({AT_REST} at rest), and one key for "
    "each token in use. They are never below the defaults of Redis."
)
UNREAD = 100_000  # notices; the default of SESSION_CACHE_SIZE
FLEET = f"The most sessions that one Redis bears below {fitted.RESTED:.0%} of a core:"


def forecast_section(points: Points, model: Model) -> str:
    """What the model says for sizes that were not measured, and what to set for them."""
    parts = [assumptions(points), sizes(model), PRIMARIES, LIMITS, settings(model)]
    return "\n\n".join([*parts, FLEET, fleets(model), all_pods(model), buffers()])


def assumptions(points: Points) -> str:
    """The load that is assumed, and how to convert the figures to another machine."""
    some = SIZES[0]
    return (
        f"Assumed: {some.active:.0%} of the logins have a token in use, which lives "
        f"{fitted.ACCESS_SECONDS / 60:.0f} minutes and serves {some.requests:.0f} requests at "
        f"random pods; a login lives {fitted.REFRESH_SECONDS / 86400:.0f} days, and "
        f"{some.logouts:.0%} of them end by a logout. Memory counts a token for each login. CPU is "
        "in cores of the machine above; for another machine, multiply by its unit and divide by "
        f"{points.unit:.2f} µs."
    )


def sizes(model: Model) -> str:
    """The forecasts."""
    rows: list[list[str]] = []
    for load in SIZES:
        found = fitted.forecast(model, load)
        parts = (found.pings, found.writes, found.pushes, found.lookups, found.seen, found.cpu)
        sized = (found.stored, found.connected, found.tracked, found.memory)
        rows.append(
            [
                *(f"{load.pods:,}", f"{load.sessions:,}"),
                *(f"{part:.2f}" for part in parts),
                *(f"{part / GIB:.2f}" for part in sized),
                f"{found.primaries:,}" if found.primaries else "none",
            ]
        )
    header = [
        "pods",
        "sessions",
        "pings",
        "writes",
        "pushes",
        "look-ups",
        "last seen",
        "CPU in total",
    ]
    header += ["sessions GiB", "connections GiB", "table GiB", "memory in total", "primaries"]
    return table(header, rows)


def settings(model: Model) -> str:
    """What to set for the sizes that are forecast, on one of as many primaries as they need."""
    rows: list[list[str]] = []
    for load in SIZES:
        found = fitted.forecast(model, load)
        share = max(1, found.primaries)
        clients = rounded(SPARE * AT_MOST * load.pods)
        keys = rounded(SPARE * load.live / share)
        memory = (found.stored + found.tracked) / share + found.connected
        rows.append(
            [
                *(f"{load.pods:,}", f"{load.sessions:,}"),
                f"{max(clients, DEFAULT_CLIENTS):,}",
                f"{AT_REST * load.pods:,}",
                f"{max(keys, DEFAULT_KEYS):,}",
                f"{math.ceil(2 * memory / GIB):,}",
            ]
        )
    header = ["pods", "sessions", "maxclients", "connections at rest", "tracking-table-max-keys"]
    return table([*header, "RAM GiB (twice the data)"], rows)


def rounded(value: float) -> int:
    """The number, rounded up to two significant digits."""
    step = int(math.pow(10, max(0, math.floor(math.log10(value)) - 1)))
    return math.ceil(value / step) * step


def fleets(model: Model) -> str:
    """The most sessions by the number of pods."""
    rows = []
    for pods in FLEETS:
        most = fitted.most_sessions(model, pods)
        pings = fitted.forecast(model, Load(pods, 1)).pings
        rows.append([f"{pods:,}", f"{pings:.2f}", f"{int(most):,}" if most else "none"])
    return table(["pods", "CPU of pings (cores)", "sessions"], rows)


def buffers() -> str:
    """What Redis keeps for a pod that does not read its notices."""
    size = PodCommands("").push_size
    return (
        f"A notice that a session has changed takes {size} bytes. Redis sends one for each session "
        "that the pod has read, and no second one before the pod has read it again. So for a pod "
        f"that does not read, Redis keeps at most {UNREAD * size / MIB:.1f} MiB for each "
        f"{UNREAD:,} sessions that the pod has read."
    )


def all_pods(model: Model) -> str:
    """What the end of a session that every pod has read costs, and a start of every pod."""
    push, start = model.logout.coefficients[1], model.start.coefficients[0]
    logouts = [significant(push * pods / 1e3) for pods in (1_000, 10_000)]
    starts = [significant(start * pods / 1e6) for pods in (1_000, 10_000)]
    return (
        "The logout of a session that every pod has read (of a service account that all clients "
        f"use, for example) keeps Redis busy for {logouts[0]} ms with 1,000 pods and "
        f"{logouts[1]} ms with 10,000. A start of all pods at once takes {starts[0]} s of its CPU "
        f"with 1,000 pods and {starts[1]} s with 10,000."
    )
