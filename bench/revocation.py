"""The check `revocation`: how soon a logout at one sidecar takes effect at the others.

Measures three sidecars on one Redis, without other load and while another process writes logins. A
fourth, which gets no requests, shows what these logins cost an uninvolved sidecar.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from bench import counters, polling, report, sidecar, usage
from bench.children import START_SECONDS
from bench.outcome import Finding, Outcome, at_most, p99

if TYPE_CHECKING:
    from bench.lab import Lab
    from bench.polling import Line, Revoked

LOGOUTS = 1_000
WARM_THERE = 100
PER_SECOND = 1_000
AT_LEAST_SECONDS = 5.0  # length of a period, to measure the bystander's CPU
LIMIT_MS = 5.0
LIMIT_SHARE = 0.01
RATE_KEPT = 0.9


@dataclass(frozen=True, slots=True)
class Stretch:
    """A measured period: its logouts, the bystander's share of a core, and logins per second."""

    revoked: list[Revoked]
    bystander: float
    logins: float

    @property
    def delays(self) -> list[float]:
        """Milliseconds from the response to each logout to the first 401 of each other sidecar."""
        return [delay * 1e3 for one in self.revoked for delay in one.delays]

    @property
    def let_in(self) -> int:
        """The number of requests that were allowed with a revoked token."""
        return sum(one.let_in for one in self.revoked)


def check(lab: Lab) -> Finding:
    """Run the check."""
    lab.start_redis()
    names = ("first", "second", "third", "bystander")
    started = [sidecar.start(lab, f"sidecar-{name}", redis=True) for name in names]
    tokens = sidecar.logins(started[0].port, 2 * LOGOUTS)
    others = sidecar.logins(started[0].port, WARM_THERE)
    with ExitStack() as stack:
        # A sidecar closes connections that are opened long before their first request.
        lines = [stack.enter_context(closing(polling.Line(one.port))) for one in started[:-1]]
        warm(tokens, lines)
        with closing(polling.Line(started[-1].port)) as aside:
            warm(others, [aside])
        bystander = started[-1].child.pid
        quiet = stretch(lab, bystander, lines, tokens[:LOGOUTS])
        argv = [sys.executable, "-m", "bench.login_writer", str(lab.redis_port), str(PER_SECOND)]
        writer = lab.children.spawn("login-writer", argv)
        wait_for_logins(lab)
        busy = stretch(lab, bystander, lines, tokens[LOGOUTS:])
        if writer.process.poll() is not None:
            raise polling.PollError(f"the writer of logins ended:\n{writer.tail()}")
    return Finding(judge(quiet, busy), [conditions(), table(quiet, busy)])


def warm(tokens: list[str], lines: list[Line]) -> None:
    """Send each token to each sidecar twice. Raises PollError unless it is accepted."""
    for token in tokens:
        for line in lines * 2:
            status = line.ask(polling.verify(token))
            if status != polling.ALLOWED:
                raise polling.PollError(f"a request with a live token got status {status}")


def wait_for_logins(lab: Lab) -> None:
    """Return once logins arrive in Redis. Raises PollError if none arrive in time."""
    before, deadline = counters.read(lab.redis_port), time.monotonic() + START_SECONDS
    while logins_in(counters.read(lab.redis_port) - before) < PER_SECOND / 2:
        if time.monotonic() > deadline:
            raise polling.PollError("no logins arrive in Redis")
        time.sleep(0.1)


def stretch(lab: Lab, bystander: int, lines: list[Line], tokens: list[str]) -> Stretch:
    """Log these tokens out at the first sidecar one by one, and measure the bystander meanwhile."""
    pids = usage.tree(bystander)
    asked, cpu, began = counters.read(lab.redis_port), usage.usage(pids), time.monotonic()
    revoked = [polling.revoke(token, lines[0], lines[1:]) for token in tokens]
    time.sleep(max(0.0, began + AT_LEAST_SECONDS - time.monotonic()))
    took = time.monotonic() - began
    used = (usage.usage(pids) - cpu).nanoseconds / 1e9
    return Stretch(revoked, used / took, logins_in(counters.read(lab.redis_port) - asked) / took)


def logins_in(asked: counters.Counters) -> int:
    """The number of logins written: each has one SET."""
    return asked.calls.get("set", 0)


def judge(quiet: Stretch, busy: Stretch) -> list[Outcome]:
    """Compare the figures with the bars."""
    rate = f"{busy.logins:,.0f} logins/s elsewhere"
    return [
        at_most("logout to 401 elsewhere, p99", p99(quiet.delays), LIMIT_MS, "ms"),
        at_most(f"logout to 401 elsewhere, p99, {rate}", p99(busy.delays), LIMIT_MS, "ms"),
        Outcome(
            f"CPU of a bystander, {rate}",
            f"{busy.bystander:.2%} of a core",
            f"under {LIMIT_SHARE:.0%}",
            busy.bystander < LIMIT_SHARE,
        ),
        Outcome(
            "logins written",
            f"{busy.logins:,.0f}/s",
            f"at least {RATE_KEPT * PER_SECOND:,.0f}/s",
            busy.logins >= RATE_KEPT * PER_SECOND,
        ),
    ]


def conditions() -> str:
    """A description of what was measured."""
    return (
        f"Three sidecars; {LOGOUTS:,} logouts at the first, with tokens whose sessions all three"
        " have cached. Measured is the time from the response to the logout until the first 401"
        " from the second and from the third sidecar, which are queried continuously"
        f" (`/auth/verify`). A fourth sidecar, with {WARM_THERE} cached sessions, receives no"
        " requests. Nothing is pinned."
    )


def table(quiet: Stretch, busy: Stretch) -> str:
    """A table with one row per period."""
    rows = [
        [
            name,
            f"{median(one.delays):.2f}",
            f"{p99(one.delays):.2f}",
            f"{max(one.delays):.2f}",
            f"{one.let_in:,}",
            f"{one.bystander:.2%}",
            f"{one.logins:,.0f}",
        ]
        for name, one in (("quiet", quiet), ("logins elsewhere", busy))
    ]
    header = ["", "p50 ms", "p99 ms", "max ms", "let in", "bystander's CPU", "logins/s"]
    return report.table(header, rows)
