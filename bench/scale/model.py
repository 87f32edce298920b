"""The model: coefficients fitted to the points, and what it says for sizes that were not measured.

Pure. CPU is in microseconds, memory in bytes, unless a name says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.scale.points import Points

NOISE = 0.01
RESTED = 0.7  # of a core; beyond that, look-ups wait for each other too long
ACCESS_SECONDS = 900.0  # the default of ACCESS_TOKEN_EXPIRY
REFRESH_SECONDS = 7 * 86400.0  # the default of REFRESH_TOKEN_EXPIRY
SEEN_SECONDS = 300.0  # between two last-seen times of a login, for each pod
SEEN_KEYS = 256  # of the look-up that records them


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients of a linear model, and how far each point is from it, as a share of the point.

    The first coefficient is that of the constant 1 if the model has one.
    """

    coefficients: tuple[float, ...]
    offsets: tuple[float, ...]

    @property
    def worst(self) -> float:
        """The largest offset, without its sign."""
        return max(map(abs, self.offsets), default=0.0)


@dataclass(frozen=True, slots=True)
class Model:
    """The fits. Each has the coefficients that its comment names, in this order."""

    rest: Fit  # µs a second: without pods; of each pod
    connections: Fit  # bytes: without pods; of each pod
    login: Fit  # µs: of a login; of each 1,000 connected pods
    refresh: Fit  # µs: of a refresh; of each pod that tracks the replaced token
    logout: Fit  # µs: of a logout; of each pod that tracks the token
    expiry: Fit  # µs: of an expired token; of each pod that tracks it
    lookup: Fit  # µs: of a command; of each session that it reads
    seen: float  # µs of each login whose last-seen time is written
    table: Fit  # bytes: of each tracked key; of each pod that tracks it
    stored: Fit  # bytes of each login
    start: Fit  # µs of each pod that starts and reads its first sessions


@dataclass(frozen=True, slots=True)
class Load:
    """A size to forecast. `active` is the share of logins with a token in use.

    Each such token serves `requests` requests, at random pods.
    """

    pods: int
    sessions: int
    active: float = 0.05
    requests: float = 20.0
    logouts: float = 0.1  # of the logins, that do not just expire

    @property
    def live(self) -> float:
        """Tokens in use: the keys in the tracking table."""
        return self.sessions * self.active

    @property
    def readers(self) -> float:
        """How many pods read each of them, on average."""
        return self.pods * (1.0 - math.pow(1.0 - 1.0 / self.pods, self.requests))

    @property
    def logins(self) -> float:
        """Logins per second."""
        return self.sessions / REFRESH_SECONDS

    @property
    def issued(self) -> float:
        """Tokens issued per second, by logins and refreshes; as many end."""
        return max(self.logins, self.live / ACCESS_SECONDS)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a load takes: shares of a core by cause, bytes by cause, and how many primaries."""

    pings: float
    writes: float
    pushes: float
    lookups: float
    seen: float
    stored: float
    connected: float
    tracked: float
    primaries: int

    @property
    def cpu(self) -> float:
        """The share of a core in total."""
        return self.pings + self.writes + self.pushes + self.lookups + self.seen

    @property
    def memory(self) -> float:
        """Bytes in total."""
        return self.stored + self.connected + self.tracked


def fit(rows: Sequence[Sequence[float]], values: Sequence[float]) -> Fit:
    """The coefficients with the least squares of the offsets.

    An offset is relative to the value, because the points span orders of magnitude and all of them
    count, but at least to a hundredth of the largest value: what is smaller is noise. Raises
    ValueError if the rows do not determine the coefficients.
    """
    least = max(map(abs, values)) * NOISE
    scales = [max(abs(value), least) for value in values]
    size = len(rows[0])
    weighted = [
        ([cell / scale for cell in row], value / scale)
        for row, value, scale in zip(rows, values, scales, strict=True)
    ]
    matrix = [
        [
            *(sum(row[i] * row[j] for row, _ in weighted) for j in range(size)),
            sum(row[i] * value for row, value in weighted),
        ]
        for i in range(size)
    ]
    found = solved(matrix)
    offsets = [
        sum(a * b for a, b in zip(row, found, strict=True)) - value for row, value in weighted
    ]
    return Fit(tuple(found), tuple(offsets))


def solved(matrix: list[list[float]]) -> list[float]:
    """The solution of linear equations, one per row with its right side last (Gauss)."""
    size = len(matrix)
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(matrix[row][column]))
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        if not matrix[column][column]:
            raise ValueError("the points do not determine the model")
        for row in range(size):
            if row != column:
                factor = matrix[row][column] / matrix[column][column]
                matrix[row] = [
                    cell - factor * above
                    for cell, above in zip(matrix[row], matrix[column], strict=True)
                ]
    return [matrix[row][size] / matrix[row][row] for row in range(size)]


def fit_model(points: Points) -> Model:
    """The model of these points. Raises ValueError if there are too few."""
    plain = [each for each in points.lookups if not each.seen]
    lookup = fit([(1.0, each.batch) for each in plain], [each.cpu for each in plain])
    command, key = lookup.coefficients
    (marked,) = (each for each in points.lookups if each.seen)
    return Model(
        rest=fit(
            [(1.0, each.pods) for each in points.rests], [each.cpu * 1e6 for each in points.rests]
        ),
        connections=fit(
            [(1.0, each.pods) for each in points.rests], [each.memory for each in points.rests]
        ),
        login=fit_login(points),
        refresh=fit_write(points, "refresh"),
        logout=fit_write(points, "logout"),
        expiry=fit_write(points, "expiry"),
        lookup=lookup,
        seen=max(0.0, marked.cpu - command - key * marked.batch) / marked.batch,
        table=fit(
            [(each.keys, each.keys * each.pods) for each in points.tables],
            [each.size for each in points.tables],
        ),
        stored=fit(
            [(each.logins,) for each in points.stored], [each.size for each in points.stored]
        ),
        start=fit(
            [(each.pods,) for each in points.storms], [each.cpu * 1e6 for each in points.storms]
        ),
    )


def fit_login(points: Points) -> Fit:
    """What a login costs, by the pods that are connected. None of them tracks its keys."""
    found = [each for each in points.writes if each.kind == "login"]
    return fit([(1.0, each.connected / 1_000) for each in found], [each.cpu for each in found])


def fit_write(points: Points, kind: str) -> Fit:
    """What a write of this kind costs, by the pods that track its key, with all pods connected."""
    most = max(each.connected for each in points.writes)
    found = [each for each in points.writes if each.kind == kind and each.connected == most]
    return fit([(1.0, each.pods) for each in found], [each.cpu for each in found])


def forecast(model: Model, load: Load) -> Forecast:
    """What this load takes, and how many primaries of a cluster keep each below `RESTED`.

    A cluster divides sessions. It does not divide pods, each of which pings every primary. Not
    counted: there, pods also ask who owns the slots, and cannot join look-ups in one command.
    """
    push = model.logout.coefficients[1]
    command, key = model.lookup.coefficients
    pairs = load.issued * load.readers  # first reads, and later invalidations, per second
    refreshes = load.issued - load.logins
    base, each = model.rest.coefficients
    writes = (
        load.logins * (model.login.coefficients[0] + load.logouts * model.logout.coefficients[0])
        + refreshes * model.refresh.coefficients[0]
        + load.issued * model.expiry.coefficients[0]
    )
    pings = (base + each * load.pods) / 1e6
    divided = (
        writes / 1e6,
        pairs * push / 1e6,
        pairs * (command + key) / 1e6,
        load.live * load.readers / SEEN_SECONDS * model.seen / 1e6,
    )
    table_key, table_pod = model.table.coefficients
    return Forecast(
        pings,
        *divided,
        stored=model.stored.coefficients[0] * load.sessions,
        connected=model.connections.coefficients[1] * load.pods,
        tracked=load.live * (table_key + table_pod * load.readers),
        primaries=0 if pings >= RESTED else math.ceil(sum(divided) / (RESTED - pings)),
    )


def most_sessions(model: Model, pods: int) -> float:
    """How many sessions one Redis bears with so many pods, below `RESTED`; 0 if not even them."""
    some = 1_000_000
    found = forecast(model, Load(pods, some))
    left = RESTED - found.pings
    return max(0.0, left / (found.cpu - found.pings) * some)
