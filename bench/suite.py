"""The measurement: proxies are started once and then loaded in turn, round after round.

Owns the order and the accounting. Must not know how results are shown.
"""

from __future__ import annotations

import http.client
import os
import resource
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench import load, usage
from bench.children import StartError
from bench.scenarios import SMALL_BODY, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.lab import Lab
    from bench.proxies import Proxy, Running

WARM_UP_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Round:
    """A burst at one proxy, with the CPU time of the proxy and of Redis meanwhile."""

    load: load.Load
    cpu: usage.Usage
    redis_ns: int
    errors: int


@dataclass(slots=True)
class Measured:
    """A running proxy and its measurements: rounds by scenario name, and resident bytes."""

    proxy: Proxy
    running: Running
    pids: list[int]
    rss_start: int
    rss_end: int = 0
    rounds: dict[str, list[Round]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Disturbance:
    """How busy other programs were during a run, as shares of all CPUs' time (0 to 1)."""

    others: float
    stolen: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure; `connections` overrides the number in every scenario."""

    scenarios: Sequence[Scenario]
    rounds: int
    seconds: int
    connections: int | None = None


def start_all(
    lab: Lab, proxies: Sequence[Proxy], say: Callable[[str], None]
) -> tuple[list[Measured], list[str]]:
    """Start all proxies; returns those that run, and the names of those that failed to start.

    A proxy that is not installed is reported in one line and skipped.
    """
    measured, failed = [], []
    for proxy in proxies:
        missing = proxy.missing()
        if missing:
            say(f"without {proxy.name}: {', '.join(missing)} is not installed")
            continue
        try:
            running = proxy.start(lab, proxy)
            running.child.wait_listening(running.port)
        except StartError as error:
            say(f"without {proxy.name}: {error}")
            failed.append(proxy.name)
            continue
        pids = usage.tree(running.child.pid)
        measured.append(Measured(proxy, running, pids, usage.rss(pids)))
    return measured, failed


def measure(
    lab: Lab, plan: Plan, measured: Sequence[Measured], say: Callable[[str], None]
) -> Disturbance:
    """Run the plan and add to each proxy's rounds; returns the disturbance by other programs.

    Each round runs every scenario, and within each scenario every proxy in turn, so that a slow
    minute of the machine affects all of them.
    """
    for entry in measured:
        preflight(entry, plan.scenarios)
        burst(lab, plan, entry, plan.scenarios[0], seconds=WARM_UP_SECONDS)
        entry.pids = usage.tree(entry.running.child.pid)
    meter = DisturbanceMeter()
    for number in range(plan.rounds):
        say(f"round {number + 1} of {plan.rounds}")
        for scenario in plan.scenarios:
            for entry in measured:
                if scenario.need in entry.proxy.abilities:
                    done = burst(lab, plan, entry, scenario, seconds=plan.seconds)
                    entry.rounds.setdefault(scenario.name, []).append(done)
    disturbance = meter.disturbance()
    for entry in measured:
        entry.rss_end = usage.rss(entry.pids)
    return disturbance


def burst(lab: Lab, plan: Plan, entry: Measured, scenario: Scenario, *, seconds: int) -> Round:
    """Run wrk once at one proxy, and measure the CPU time used meanwhile."""
    redis = [lab.redis.pid] if lab.redis and entry.proxy.redis else []
    redis_before, before = usage.usage(redis), usage.usage(entry.pids)
    done = load.run(
        load.Burst(
            port=entry.running.port,
            path=scenario.path,
            method=scenario.method,
            headers=scenario.header_lines(entry.running.token),
            body_size=scenario.body_size,
            connections=plan.connections or scenario.connections,
            seconds=seconds,
        ),
        cpu=lab.other_cpu,
    )
    return Round(
        load=done,
        cpu=usage.usage(entry.pids) - before,
        redis_ns=(usage.usage(redis) - redis_before).nanoseconds,
        errors=done.errors(denied=scenario.status >= 400),
    )


def preflight(entry: Measured, scenarios: Sequence[Scenario]) -> None:
    """Send the request of each scenario once. Raises StartError if the response is wrong."""
    for scenario in scenarios:
        if scenario.need not in entry.proxy.abilities:
            continue
        status, body = ask(entry.running, scenario)
        wrong = status != scenario.status or len(body) != (
            len(body) if scenario.length is None else scenario.length
        )
        if wrong or (scenario.length == len(SMALL_BODY) and body != SMALL_BODY):
            msg = f"{entry.proxy.name} answers {scenario.name} with {status} and {len(body)} bytes"
            raise StartError(f"{msg}: {body[:120]!r}\n{entry.running.child.tail()}")


def ask(running: Running, scenario: Scenario) -> tuple[int, bytes]:
    """Send the request of a scenario without wrk; returns the status and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    headers = dict(line.split(": ", 1) for line in scenario.header_lines(running.token))
    try:
        connection.request(scenario.method, scenario.path, b"x" * scenario.body_size, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class DisturbanceMeter:
    """Measures the disturbance by other programs from its creation on."""

    def __init__(self) -> None:
        self._tick = os.sysconf("SC_CLK_TCK")
        self._start = time.monotonic()
        self._machine = usage.machine()
        self._own = own_seconds()

    def __repr__(self) -> str:
        return f"<DisturbanceMeter since {time.monotonic() - self._start:.0f} s>"

    def disturbance(self) -> Disturbance:
        """The shares of all CPUs' time that other programs used and that the host withheld."""
        elapsed = (time.monotonic() - self._start) * (os.cpu_count() or 1)
        now = usage.machine()
        busy = (now.busy - self._machine.busy) / self._tick
        return Disturbance(
            others=max(0.0, busy - (own_seconds() - self._own)) / elapsed,
            stolen=(now.stolen - self._machine.stolen) / self._tick / elapsed,
        )


def own_seconds() -> float:
    """CPU time of this process, its living descendants, and its ended children."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = usage.usage(usage.tree(os.getpid())).nanoseconds / 1e9
    return living + ended.ru_utime + ended.ru_stime
