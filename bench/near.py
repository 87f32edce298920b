"""The check `near`: the cost of a request whose shared session is in the near cache.

Measures the sidecar with Redis in alternation with the sidecar with local sessions, HAProxy and
nginx + Lua + Redis. Then counts the commands that Redis receives during a burst.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench import bars, compare, counters, load, report, suite, summary, witness
from bench.outcome import Finding, Outcome, at_most, disturbed
from bench.passes import Meter
from bench.proxies import PROXIES
from bench.scenarios import SMALL, Setup

if TYPE_CHECKING:
    from bench.counters import Counters
    from bench.lab import Lab

SUBJECT = "sidecar-redis"
PEERS = ("sidecar", SUBJECT, "haproxy", "lua-redis")
ROUNDS, SECONDS = 9, 1
REQUESTS = 20_000
LATE = 0.1  # seconds by which a program may wake up late; a ping to Redis may take 0.75


def bar(title: str, peer: str, limit: float) -> bars.Bar:
    """A bar for the sidecar's small GET with a shared session."""
    return bars.Bar(title, (SUBJECT, SMALL.name), (peer, SMALL.name), limit)


BARS = (
    bar("Redis store ÷ local store", "sidecar", 1.1),
    bar("Redis store ÷ HAProxy", "haproxy", 1.2),
    bar("Redis store ÷ nginx + Lua + Redis GET", "lua-redis", 0.5),
)


def check(lab: Lab) -> Finding:
    """Run the check. A peer that is not installed is skipped together with its bar."""
    lab.start_redis()
    proxies = [proxy for proxy in PROXIES if proxy.name in PEERS]
    plan = suite.Plan([SMALL], ROUNDS, SECONDS)
    measured, failed = suite.start_all(lab, plan, proxies, compare.say)
    disturbance = suite.measure(lab, plan, measured, compare.say)
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
    subject = next((entry for entry in measured if entry.proxy.name == SUBJECT), None)
    if subject is None:
        return Finding(outcomes, [])
    with witness.watching(lab.children) as seen:
        outcome, sentence = count(lab, subject)
    (outcome,) = disturbed([outcome], seen.control(LATE))
    titles = {entry.proxy.name: entry.proxy.title for entry in measured}
    conditions = (
        f"Small GET, {SMALL.connections} connections, median of {ROUNDS} rounds of {SECONDS} s"
        f" in alternation. During the run, other programs used {disturbance.others:.0%} of the"
        f" machine, and its host withheld {disturbance.stolen:.0%}."
    )
    rows = report.scenario_table(figures[SMALL.name], titles)
    return Finding([*outcomes, outcome], [conditions, rows, sentence])


def count(lab: Lab, subject: suite.Measured) -> tuple[Outcome, str]:
    """Count the commands in Redis during a burst; returns the outcome and a sentence."""
    file = lab.directory / "one-token"
    running = subject.running[Setup.SESSIONS]
    file.write_text(f"{running.token}\n")
    meter = Meter(lab, running.pids, running.port, asks=True)
    began = time.monotonic()
    busy = meter.run(load.Rotation(file, 0, REQUESTS)).asked
    took = time.monotonic() - began
    before = counters.read(lab.redis_port)
    time.sleep(took)
    quiet = counters.read(lab.redis_port) - before
    if busy is None:
        raise load.LoadError("there is no Redis whose commands could be counted")
    return verdict(busy, quiet), (
        f"Commands in Redis during {REQUESTS:,} requests: {counters.listing(busy)};"
        f" during the same time ({took:.1f} s) without requests: {counters.listing(quiet)}."
    )


def verdict(busy: Counters, quiet: Counters) -> Outcome:
    """The outcome: no values may be read; other commands are only shown, compared with rest."""
    more = max(0, busy.total - quiet.total)
    return Outcome(
        f"Redis reads in {REQUESTS:,} requests",
        f"{busy.reads:,} commands, {busy.keys:,} keys ({more:,} commands more than at rest)",
        "0",
        busy.reads == 0 and busy.keys == 0,
    )
