"""The measurement: proxies are started once and then loaded in turn, round after round.

Owns the order and the accounting. Must not know how results are shown.
"""

from __future__ import annotations

import os
import resource
import secrets
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bench import bursts, load, preflight, usage
from bench.children import StartError
from bench.holding import HoldError
from bench.scenarios import MIXED, Kind, Scenario, Setup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.lab import Lab
    from bench.proxy import Proxy, Running

WARM_UP_SECONDS = 1
PAIR = ("sidecar", "haproxy")  # half of the load of the slower one is what latency is measured at
SPARE = 1.5  # what a proxy must be able to take, as a multiple of that


@dataclass(frozen=True, slots=True)
class Round:
    """A burst at one proxy, the CPU time used meanwhile, and resident bytes at its end."""

    load: load.Load
    cpu: usage.Usage
    redis_ns: int
    errors: int
    rss: int = 0


FAILED = Round(load.Load(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), usage.Usage(0, 0, 0), 0, errors=1)


@dataclass(slots=True)
class Measured:
    """A proxy that runs, once for each setup, and its measurements.

    `sizes` has those of the right responses, `rounds` all bursts, both by scenario name.
    """

    proxy: Proxy
    running: dict[Setup, Running]
    rss_start: int = 0
    rss_end: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    rounds: dict[str, list[Round]] = field(default_factory=dict)

    def takes(self, scenario: Scenario) -> bool:
        """Whether this proxy can be measured in this scenario."""
        return scenario.need in self.proxy.abilities and scenario.setup in self.running

    def rss(self) -> int:
        """Resident bytes in the first setup; 0 without any."""
        return next((usage.rss(running.pids) for running in self.running.values()), 0)


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

    def setups(self) -> list[Setup]:
        """The setups that the scenarios need."""
        needed = {scenario.setup for scenario in self.scenarios}
        return [setup for setup in Setup if setup in needed]


def start_all(
    lab: Lab, plan: Plan, proxies: Sequence[Proxy], say: Callable[[str], None]
) -> tuple[list[Measured], list[str]]:
    """Start all proxies in the setups that the plan needs; check their responses, and warm them up.

    Returns those that can be measured, and the names of those that do not start or answer wrongly.
    A proxy that is not installed is reported in one line and skipped; it is in neither list.
    """
    measured, failed = [], []
    for proxy in proxies:
        missing = proxy.missing()
        if missing:
            say(f"without {proxy.name}: {', '.join(missing)} is not installed")
            continue
        wanted = [setup for setup in plan.setups() if setup in proxy.setups]
        try:
            entry = Measured(proxy, {setup: start(lab, proxy, setup) for setup in wanted})
            entry.rss_start = entry.rss()
            warm_up(lab, plan, entry)
        except StartError as error:
            say(f"without {proxy.name}: {error}")
            failed.append(proxy.name)
        else:
            measured.append(entry)
    return measured, failed


def start(lab: Lab, proxy: Proxy, setup: Setup) -> Running:
    """Start a proxy, and return when it listens. Raises StartError."""
    running = proxy.start(lab, proxy, setup)
    running.children[0].wait_listening(running.port)
    find_processes(running)
    return running


def find_processes(running: Running) -> None:
    """Note the processes of a proxy, of which there may be more after its first requests."""
    running.pids = [pid for child in running.children for pid in usage.tree(child.pid)]


def measure(
    lab: Lab, plan: Plan, measured: Sequence[Measured], say: Callable[[str], None]
) -> Disturbance:
    """Run the plan and add to each proxy's rounds; returns the disturbance by other programs.

    Each round runs every scenario, and within each scenario every proxy in turn, so that a slow
    minute of the machine affects all of them. In a round, all get the same requests.
    """
    meter = DisturbanceMeter()
    for number in range(plan.rounds):
        say(f"round {number + 1} of {plan.rounds}")
        for scenario in plan.scenarios:
            run_scenario(lab, plan, measured, scenario, say)
    disturbance = meter.disturbance()
    for entry in measured:
        entry.rss_end = entry.rss()
    return disturbance


def warm_up(lab: Lab, plan: Plan, entry: Measured) -> None:
    """Check a proxy's responses in each setup, and send it the load of a first scenario.

    Each user's token is sent twice before, so that it does not depend on the speed of the machine
    whether the measured requests with known tokens are the first ones. Twice, because a proxy may
    not keep for long what it saw once.
    """
    for setup, running in entry.running.items():
        found = [one for one in plan.scenarios if one.setup is setup and entry.takes(one)]
        entry.sizes |= preflight.check(lab, entry.proxy, running, found)
        warm = [one for one in found if one.kind in {Kind.REPLAY, Kind.MIXED} and not one.idle]
        for scenario in warm[:1]:
            order = bursts.Order(WARM_UP_SECONDS, plan.connections or scenario.connections)
            once = replace(MIXED, kind=Kind.ONCE, setup=setup, count=len(running.tokens))
            for sent in (once, once, scenario):
                bursts.prepare(lab, running, sent, order, seed=secrets.randbits(31)).fire()
        find_processes(running)


def run_scenario(
    lab: Lab,
    plan: Plan,
    measured: Sequence[Measured],
    scenario: Scenario,
    say: Callable[[str], None],
) -> None:
    """Run one burst at every proxy that takes part in a scenario; a failed one counts as wrong."""
    seed = secrets.randbits(31)
    rate = half_load(measured) if scenario.kind is Kind.RATE else 0.0
    order = bursts.Order(plan.seconds, plan.connections or scenario.connections, rate)
    for entry in measured:
        if entry.takes(scenario) and can_take(entry, scenario, rate):
            try:
                done = burst(lab, entry, scenario, order, seed=seed)
            except (HoldError, load.LoadError) as error:
                say(f"{entry.proxy.name} fails in {scenario.name}: {error}")
                done = FAILED
            entry.rounds.setdefault(scenario.name, []).append(done)


def half_load(measured: Sequence[Measured]) -> float:
    """Half of the requests per second that the slower one of `PAIR` managed in this round.

    If only one of them is measured, it is half of that one's, else of the slowest proxy's.
    """
    speeds = {
        entry.proxy.name: entry.rounds[MIXED.name][-1].load.per_second
        for entry in measured
        if MIXED.name in entry.rounds
    }
    pair = [speed for name, speed in speeds.items() if name in PAIR]
    return max(1.0, min(pair or speeds.values(), default=0.0) / 2)


def can_take(entry: Measured, scenario: Scenario, rate: float) -> bool:
    """Whether a proxy is fast enough for a rate, as found in the first round and kept to then."""
    first = entry.rounds.get(MIXED.name, [])[:1]
    if scenario.kind is not Kind.RATE or not first or entry.proxy.name in PAIR:
        return True
    earlier = len(entry.rounds[MIXED.name]) > 1
    return scenario.name in entry.rounds if earlier else first[0].load.per_second >= SPARE * rate


def burst(
    lab: Lab, entry: Measured, scenario: Scenario, order: bursts.Order, *, seed: int
) -> Round:
    """Run one burst at one proxy, and measure the CPU time used meanwhile."""
    running = entry.running[scenario.setup]
    redis = [lab.redis.pid] if lab.redis and entry.proxy.redis else []
    ready = bursts.prepare(lab, running, scenario, order, seed=seed)
    with ready.company():
        redis_before, before = usage.usage(redis), usage.usage(running.pids)
        done = ready.fire()
        cpu, redis_cpu = usage.usage(running.pids) - before, usage.usage(redis) - redis_before
        rss = usage.rss(running.pids)
    return Round(
        load=done,
        cpu=cpu,
        redis_ns=redis_cpu.nanoseconds,
        errors=wrong_answers(done, scenario, entry.sizes[scenario.name], order.connections),
        rss=rss,
    )


def wrong_answers(done: load.Load, scenario: Scenario, size: int, connections: int) -> int:
    """The number of wrong and missing responses: all, if most cannot be the right one."""
    if not preflight.as_expected(done, size, connections):
        return max(1, done.requests)
    return done.errors(denied=scenario.denied) + max(0, scenario.count - done.requests)


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
