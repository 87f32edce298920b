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
from bench.outcome import Control, Finding, Outcome, at_most, control, p99

if TYPE_CHECKING:
    from bench.children import Child
    from bench.lab import Lab
    from bench.polling import Line, Revoked

LOGOUTS = 1_000
UNLIMITED = 1_000_000  # logins per second
WARM_THERE = 100
PER_SECOND = 1_000
AT_LEAST_SECONDS = 5.0  # length of a period, to measure the bystander's CPU
LIMIT_MS = 5.0
LIMIT_SHARE = 0.01
RATE_KEPT = 0.9
# The controls. A plain request is what a delay consists of, at least twice: a push to the other
# sidecar, and the request that it denies. At rest, a bystander sends pings. The writer of logins
# shares its CPUs with four sidecars and a client that never waits.
PLAIN_LIMIT_MS = LIMIT_MS / 2
REST_LIMIT = LIMIT_SHARE / 2
ALONE_LIMIT = 2 * PER_SECOND
ALONE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """A measured period: its logouts, the bystander's share of a core, and logins per second.

    `plain` has the milliseconds of requests with tokens that are valid.
    """

    revoked: list[Revoked]
    plain: list[float]
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
        alone = written_alone(lab)
        start_writer(lab, "login-writer", PER_SECOND)
        busy = stretch(lab, bystander, lines, tokens[LOGOUTS:])
    return Finding(judge(quiet, busy, alone), [conditions(), table(quiet, busy)])


def warm(tokens: list[str], lines: list[Line]) -> None:
    """Send each token to each sidecar twice. Raises PollError unless it is accepted."""
    for token in tokens:
        for line in lines * 2:
            plain_request(line, token)


def start_writer(lab: Lab, name: str, rate: int) -> Child:
    """Start a writer of logins, and return once they arrive. Raises PollError if none arrive."""
    argv = [sys.executable, "-m", "bench.login_writer", str(lab.redis_port), str(rate)]
    writer = lab.children.spawn(name, argv)
    before, deadline = counters.read(lab.redis_port), time.monotonic() + START_SECONDS
    while logins_in(counters.read(lab.redis_port) - before) < WARM_THERE:
        if writer.process.poll() is not None or time.monotonic() > deadline:
            raise polling.PollError(f"no logins arrive in Redis:\n{writer.tail()}")
        time.sleep(0.1)
    return writer


def written_alone(lab: Lab) -> float:
    """How many logins per second can be written while the sidecars have nothing to do."""
    writer = start_writer(lab, "login-writer-alone", UNLIMITED)
    before, began = counters.read(lab.redis_port), time.monotonic()
    time.sleep(ALONE_SECONDS)
    done = logins_in(counters.read(lab.redis_port) - before) / (time.monotonic() - began)
    writer.stop()
    return done


def stretch(lab: Lab, bystander: int, lines: list[Line], tokens: list[str]) -> Stretch:
    """Log these tokens out at the first sidecar one by one, and measure the bystander meanwhile."""
    pids = usage.tree(bystander)
    asked, cpu, began = counters.read(lab.redis_port), usage.usage(pids), time.monotonic()
    plain, revoked = [], []
    for token in tokens:
        plain += [plain_request(line, token) for line in lines[1:]]
        revoked.append(polling.revoke(token, lines[0], lines[1:]))
    time.sleep(max(0.0, began + AT_LEAST_SECONDS - time.monotonic()))
    took = time.monotonic() - began
    used = (usage.usage(pids) - cpu).nanoseconds / 1e9
    logins = logins_in(counters.read(lab.redis_port) - asked) / took
    return Stretch(revoked, plain, used / took, logins)


def plain_request(line: Line, token: str) -> float:
    """The milliseconds of a request with a valid token. Raises PollError if it is denied."""
    began = time.monotonic()
    status = line.ask(polling.verify(token))
    if status != polling.ALLOWED:
        raise polling.PollError(f"a request with a live token got status {status}")
    return (time.monotonic() - began) * 1e3


def logins_in(asked: counters.Counters) -> int:
    """The number of logins written: each has one SET."""
    return asked.calls.get("set", 0)


def judge(quiet: Stretch, busy: Stretch, alone: float) -> list[Outcome]:
    """Compare the figures with the bars; `alone` is what the writer managed by itself."""
    rate = f"{busy.logins:,.0f} logins/s elsewhere"
    delays = [
        at_most(
            f"logout to 401 elsewhere, p99{where}",
            p99(each.delays),
            LIMIT_MS,
            "ms",
            control("a plain request, p99,", p99(each.plain), PLAIN_LIMIT_MS, "ms"),
        )
        for where, each in (("", quiet), (f", {rate}", busy))
    ]
    rest = f"at rest, it used {quiet.bystander:.2%}, and may use {REST_LIMIT:.1%}"
    wrote = f"alone, it wrote {alone:,.0f}/s, and must write {ALONE_LIMIT:,}/s"
    return [
        *delays,
        Outcome(
            f"CPU of a bystander, {rate}",
            f"{busy.bystander:.2%} of a core",
            f"under {LIMIT_SHARE:.0%}",
            busy.bystander < LIMIT_SHARE,
            Control(rest, quiet.bystander <= REST_LIMIT),
        ),
        Outcome(
            "logins written",
            f"{busy.logins:,.0f}/s",
            f"at least {RATE_KEPT * PER_SECOND:,.0f}/s",
            busy.logins >= RATE_KEPT * PER_SECOND,
            Control(wrote, alone >= ALONE_LIMIT),
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
            f"{p99(one.plain):.2f}",
            f"{one.let_in:,}",
            f"{one.bystander:.2%}",
            f"{one.logins:,.0f}",
        ]
        for name, one in (("quiet", quiet), ("logins elsewhere", busy))
    ]
    header = [
        "",
        "p50 ms",
        "p99 ms",
        "max ms",
        "plain request, p99 ms",
        "let in",
        "bystander's CPU",
        "logins/s",
    ]
    return report.table(header, rows)
