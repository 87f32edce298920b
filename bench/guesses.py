"""The check `guesses`: passwords are guessed from many addresses, beside logins and requests.

Owns the load and the bars. The guesses use names that exist and names that do not. Right logins
come from an address that is familiar to the attacked user, and from ever new addresses for a user
who is not attacked.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import argon2
import msgspec
import uvloop
from redis import Redis

from bench import report, sidecar, usage
from bench.children import PATIENCE
from bench.outcome import Control, Finding, Outcome, below, control, p99
from bench.restarts import read_answer
from bench.scenarios import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.lab import Lab

GUESSES: Final = 10_000
SECONDS: Final = 60
CALM_SECONDS: Final = 30  # before the guesses and again after them
ADDRESSES: Final = 20
NAMES: Final = 50  # that each address guesses; one of them exists
REQUESTS: Final = 100.0  # per second, to the application
LOGINS: Final = 2.0  # per second, of each of the two users
LOGIN_LIMIT: Final = 0.300
CALM_LIMIT: Final = LOGIN_LIMIT / 2  # the control: a login without guesses
GROWTH_LIMIT: Final = 8 * MIB
# The p99 of the two calm phases differs by up to this, as a share and in seconds.
NOISE: Final = (0.25, 0.002)
VICTIM: Final = sidecar.USER
OTHER: Final = sidecar.OTHER_USER
HOME: Final = "203.0.113.9"


@dataclass(slots=True)
class Phase:
    """What one phase measured: seconds of each response, and the counts of statuses.

    `late` is by how many seconds the client sent each guess later than it was due.
    """

    requests: list[float] = field(default_factory=list)
    familiar: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    guesses: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Seen:
    """All phases, and the bytes by which the sidecar and Redis grew during the guesses."""

    before: Phase
    attack: Phase
    after: Phase
    grown: int
    grown_redis: int


def check(lab: Lab) -> Finding:
    """Run the check."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seen = runner.run(measured(lab, GUESSES, SECONDS, CALM_SECONDS))
    return Finding(judge(seen, GUESSES), [conditions(), table(seen)])


async def measured(lab: Lab, guesses: int, seconds: float, calm: float) -> Seen:
    """Run the phases in a lab whose upstream is running."""
    lab.start_redis()
    hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
    started = await asyncio.to_thread(
        sidecar.start,
        lab,
        "sidecar-guesses",
        redis=True,
        template="sidecar-guesses.toml",
        users={name: hasher.hash(sidecar.PASSWORD) for name in (VICTIM, OTHER)},
    )
    token = await asyncio.to_thread(sidecar.login, started.port)
    pids = usage.tree(started.child.pid)
    site = Site(started.port, token)
    before = await site.phase(calm)
    redis = Redis(port=lab.redis_port)
    size, size_redis = usage.rss(pids), _used(redis)
    attack = await site.phase(seconds, guesses)
    grown, grown_redis = usage.rss(pids) - size, _used(redis) - size_redis
    redis.close()
    return Seen(before, attack, await site.phase(calm), grown, grown_redis)


def _used(redis: Redis) -> int:
    return int(redis.info("memory")["used_memory"])


class Site:
    """A sidecar under load."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._get = (
            b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %b\r\n\r\n" % token.encode()
        )
        self._addresses = itertools.count(1)

    def __repr__(self) -> str:
        return f"<Site on {self._port}>"

    async def phase(self, seconds: float, guesses: int = 0) -> Phase:
        """Send requests and right logins for some seconds, and this many guesses meanwhile."""
        seen = Phase()

        def record(times: list[float]) -> Callable[[str, float], None]:
            def one(status: str, took: float) -> None:
                times.append(took)
                if status != "200":
                    seen.failures[status] += 1

            return one

        loads = [
            self._load(lambda: self._get, REQUESTS, seconds, record(seen.requests)),
            self._load(lambda: _login(VICTIM, HOME), LOGINS, seconds, record(seen.familiar)),
            self._load(lambda: _login(OTHER, self._new()), LOGINS, seconds, record(seen.new)),
        ]
        if guesses:
            turns = itertools.count()

            def guessed(status: str, _: float) -> None:
                seen.guesses[status] += 1

            rate = guesses / seconds
            loads.append(self._load(lambda: _guess(next(turns)), rate, seconds, guessed, seen.late))
        await asyncio.gather(*loads)
        return seen

    def _new(self) -> str:
        number = next(self._addresses)
        return f"100.64.{number // 250}.{number % 250}"

    async def _load(
        self,
        request: Callable[[], bytes],
        rate: float,
        seconds: float,
        done: Callable[[str, float], None],
        late: list[float] | None = None,
    ) -> None:
        """Send requests at a fixed rate, each at its time, however slow the others are."""
        idle: list[_Connection] = []
        running: set[asyncio.Task[None]] = set()
        begin = time.perf_counter()

        async def ask(message: bytes, due: float) -> None:
            connection = idle.pop() if idle else await _connect(self._port)
            reader, writer = connection
            try:
                async with asyncio.timeout(PATIENCE):
                    writer.write(message)
                    status, kept = await read_answer(reader)
            except (OSError, EOFError, TimeoutError) as error:
                status, kept = repr(error), False
            done(status.split()[0], time.perf_counter() - due)
            if kept:
                idle.append(connection)
            else:
                writer.close()

        for number in range(round(rate * seconds)):
            due = begin + number / rate
            await asyncio.sleep(max(due - time.perf_counter(), 0.0))
            if late is not None:
                late.append(time.perf_counter() - due)
            task = asyncio.create_task(ask(request(), due))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
        for _, writer in idle:
            writer.close()


_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connect(port: int) -> _Connection:
    return await asyncio.open_connection("127.0.0.1", port)


def _guess(turn: int) -> bytes:
    """The next guess: the addresses take turns, and each tries one name after the other."""
    address, number = turn % ADDRESSES, turn // ADDRESSES
    name = f"user-{number % NAMES}" if number % NAMES else VICTIM
    return _login(name, f"198.51.100.{address + 1}", f"guess-{number}")


def _login(name: str, address: str, password: str = sidecar.PASSWORD) -> bytes:
    body = msgspec.json.encode({"username": name, "password": password})
    return (
        b"POST /auth/login HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
        b"X-Forwarded-For: %b\r\nContent-Length: %d\r\n\r\n%b" % (address.encode(), len(body), body)
    )


def judge(seen: Seen, guesses: int) -> list[Outcome]:
    """The outcomes."""
    attack = seen.attack
    sent = sum(attack.guesses.values())
    answered = {"401", "429", "503"}
    known = sum(attack.guesses[status] for status in answered)
    failed = sum(sum(phase.failures.values()) for phase in (seen.before, attack, seen.after))
    bar, calm, moved = calm_bar(seen), calm_control(seen), p99(attack.requests)
    quiet = max(p99(seen.before.requests), p99(seen.after.requests))
    calm_phases = (seen.before, seen.after)
    hashing = calm_logins([took for each in calm_phases for took in each.familiar + each.new])
    logins = [
        Outcome(
            f"right logins {where}",
            f"p99 {p99(times) * 1e3:.0f} ms of {len(times)}",
            f"p99 at most {LOGIN_LIMIT * 1e3:.0f} ms",
            p99(times) <= LOGIN_LIMIT,
            calm_logins(calmly),
        )
        for where, times, calmly in (
            (
                "of the attacked user, where it was before",
                attack.familiar,
                seen.before.familiar + seen.after.familiar,
            ),
            (
                "of another user, from new addresses",
                attack.new,
                seen.before.new + seen.after.new,
            ),
        )
    ]
    shown = ", ".join(f"{count:,} got {status}" for status, count in sorted(attack.guesses.items()))
    return [
        Outcome("guesses", shown, f"{guesses:,}, none right", sent == known == guesses),
        Outcome("requests and right logins", f"{failed} failed", "0", failed == 0, hashing),
        *logins,
        Outcome(
            "requests to the application",
            f"p99 {moved * 1e3:.1f} ms",
            f"at most {bar * 1e3:.1f} ms: {quiet * 1e3:.1f} without guesses, and noise",
            moved <= bar,
            calm,
        ),
        below("RSS of the sidecar", max(seen.grown, 0), GROWTH_LIMIT),
        below("memory of Redis", max(seen.grown_redis, 0), GROWTH_LIMIT),
    ]


def calm_logins(took: list[float]) -> Control:
    """Whether the machine computes hashes fast enough for what arrives during the guesses."""
    return control("without guesses, p99", p99(took) * 1e3, CALM_LIMIT * 1e3, "ms")


def noise(seconds: float) -> float:
    """By how much a p99 differs between two phases with the same load."""
    return max(seconds * NOISE[0], NOISE[1])


def calm_bar(seen: Seen) -> float:
    """The p99 that requests may have during the guesses: what it was without, and noise."""
    quiet = max(p99(seen.before.requests), p99(seen.after.requests))
    return quiet + noise(quiet)


def calm_control(seen: Seen) -> Control:
    """Whether the phases without guesses agree, and the client had time to send the guesses."""
    calm = sorted(p99(phase.requests) for phase in (seen.before, seen.after))
    late = p99(seen.attack.late)
    shown = f"without guesses, p99 was {calm[0] * 1e3:.1f} and {calm[1] * 1e3:.1f} ms"
    sound = calm[1] - calm[0] <= noise(calm[0]) and late <= NOISE[1]
    return Control(f"{shown}; the client was late by {late * 1e3:.1f} ms, p99", sound)


def conditions() -> str:
    """The conditions of the measurement."""
    return (
        f"{GUESSES:,} guesses in {SECONDS} s from {ADDRESSES} addresses, each at {NAMES} names; "
        f"{REQUESTS:.0f} requests and {2 * LOGINS:.0f} right logins per second beside them, also "
        f"for {CALM_SECONDS} s before and after. Hashes with the default parameters. Times count "
        "from when a request was due."
    )


def table(seen: Seen) -> str:
    """The response times of every phase."""
    rows = []
    for name, phase in (("before", seen.before), ("guesses", seen.attack), ("after", seen.after)):
        times = [phase.requests, phase.familiar, phase.new]
        cells = [f"{sorted(t)[len(t) // 2] * 1e3:.1f} / {p99(t) * 1e3:.1f}" for t in times]
        rows.append([name, *cells])
    head = ["p50 / p99, ms", "requests", "logins, familiar address", "logins, new address"]
    return report.table(head, rows)
