"""The check `near`: what a shared session costs when it is known here.

The sidecar on Redis in alternation with the sidecar on local sessions, HAProxy and nginx + Lua +
Redis; then the number of times that Redis was asked anything during a counted burst.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench import compare, counters, load, report, suite, summary
from bench.outcome import Finding, Outcome, at_most
from bench.passes import SMALL, Meter
from bench.proxies import PROXIES

if TYPE_CHECKING:
    from bench.counters import Counters
    from bench.lab import Lab

OURS = "sidecar-redis"
PEERS = ("sidecar", OURS, "haproxy", "lua-redis")
ROUNDS, SECONDS = 9, 1
REQUESTS = 20_000


def bar(title: str, peer: str, limit: float) -> summary.Bar:
    """A bar on the sidecar's small GET with a shared session."""
    return summary.Bar(title, (OURS, SMALL.name), (peer, SMALL.name), limit)


BARS = (
    bar("Redis store ÷ local store", "sidecar", 1.1),
    bar("Redis store ÷ HAProxy", "haproxy", 1.2),
    bar("Redis store ÷ nginx + Lua + Redis GET", "lua-redis", 0.5),
)


def check(lab: Lab) -> Finding:
    """Run it. A peer that is not installed is left out, and its bar with it."""
    lab.start_redis()
    proxies = [proxy for proxy in PROXIES if proxy.name in PEERS]
    measured, failed = suite.start_all(lab, proxies, compare.say)
    disturbance = suite.measure(lab, suite.Plan([SMALL], ROUNDS, SECONDS), measured, compare.say)
    figures = {
        SMALL.name: {
            entry.proxy.name: summary.summarise(entry.rounds[SMALL.name]) for entry in measured
        }
    }
    outcomes = [
        at_most(f"{one.title} (best rounds {one.best:.2f})", one.measured, one.at_most)
        for one in summary.verdicts(figures, BARS)
    ]
    outcomes += [Outcome(name, "did not start", "no fault", held=False) for name in failed]
    subject = next(entry for entry in measured if entry.proxy.name == OURS)
    outcome, sentence = count(lab, subject)
    titles = {entry.proxy.name: entry.proxy.title for entry in measured}
    conditions = (
        f"Small GET, {SMALL.connections} connections, median of {ROUNDS} rounds of {SECONDS} s"
        f" in alternation. During the run, other programs used {disturbance.others:.0%} of the"
        f" machine, and its host withheld {disturbance.stolen:.0%}."
    )
    rows = report.scenario_table(figures[SMALL.name], titles)
    return Finding([*outcomes, outcome], [conditions, rows, sentence])


def count(lab: Lab, subject: suite.Measured) -> tuple[Outcome, str]:
    """How often Redis is asked during a counted burst, and the whole of it in words."""
    file = lab.directory / "one-token"
    file.write_text(f"{subject.running.token}\n")
    meter = Meter(lab, subject.pids, subject.running.port, asks=True)
    began = time.monotonic()
    busy = meter.run(load.Rotation(file, 0, REQUESTS)).asked
    took = time.monotonic() - began
    before = counters.read(lab.redis_port)
    time.sleep(took)
    quiet = counters.read(lab.redis_port) - before
    if busy is None:
        raise load.LoadError("there is no Redis to count at")
    return verdict(busy, quiet), (
        f"Commands in Redis during {REQUESTS:,} requests: {counters.listing(busy)};"
        f" during the same time ({took:.1f} s) without requests: {counters.listing(quiet)}."
    )


def verdict(busy: Counters, quiet: Counters) -> Outcome:
    """No value read; of other commands, no more than there are anyhow."""
    more = max(0, busy.total - quiet.total)
    return Outcome(
        f"Redis reads in {REQUESTS:,} requests",
        f"{busy.reads:,} commands, {busy.keys:,} keys ({more:,} commands more than at rest)",
        "0",
        busy.reads == 0 and busy.keys == 0,
    )
