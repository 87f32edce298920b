"""The check `listings`: a user with many logins who lists them on many connections harms nobody.

Two sidecars on one Redis are under this load. Meanwhile another user logs in, uses these logins at
both sidecars, and logs out at one.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from redis import Redis

from bench import load, polling, report, sidecar, witness
from bench.children import PATIENCE
from bench.outcome import Finding, Outcome, disturbed, p99

if TYPE_CHECKING:
    from concurrent.futures import Future

    from bench.lab import Lab
    from bench.load import Load

LOGINS = 450
CONNECTIONS = 20  # to each sidecar
SECONDS = 15
UNSEEN = 400
LATE = 0.03  # seconds by which a program may wake up late; Redis has 0.1 for an answer
DEGRADED = 'sidecar_degraded_transitions_total{to="degraded"}'
CLOSED = 'sidecar_breaker_state{state="closed"}'


@dataclass(slots=True)
class Seen:
    """What the other user saw. Times are in milliseconds.

    `good` counts the statuses of live sessions, `took` has the time of each such request. `delays`
    has the time from the response to each logout until the first 401 at the other sidecar.
    """

    good: Counter[int] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    alive: int = 0  # tokens accepted after the load although they were logged out


@dataclass(frozen=True, slots=True)
class Ends:
    """The state of both sidecars after the load."""

    transitions: int
    closed: int


def check(lab: Lab) -> Finding:
    """Run the check."""
    lab.start_redis()
    limit = sidecar.DEFAULT_REDIS_SECONDS
    pods = [
        sidecar.start(lab, f"sidecar-{name}", redis=True, redis_seconds=limit)
        for name in ("first", "second")
    ]
    attacker = sidecar.logins(pods[0].port, LOGINS)[-1]
    require_logins(lab.redis_port)
    unseen = sidecar.logins(pods[0].port, UNSEEN, sidecar.OTHER_USER)
    seen = Seen()
    with witness.watching(lab.children) as watched, ThreadPoolExecutor(len(pods)) as threads:
        attacks = [threads.submit(load.run, attack(pod.port, attacker)) for pod in pods]
        use(pods[0].port, pods[1].port, unseen, attacks, seen)
        loads = [each.result() for each in attacks]
    for pod in pods:
        with closing(polling.Line(pod.port)) as line:
            accepted = [line.ask(polling.verify(token)) == polling.ALLOWED for token in seen.ended]
            seen.alive += sum(accepted)
    ends = Ends(
        transitions=sum(int(sidecar.metric(pod, DEGRADED) or 0) for pod in pods),
        closed=sum(int(sidecar.metric(pod, CLOSED) or 0) for pod in pods),
    )
    outcomes = disturbed(judge(seen, loads, ends), watched.control(LATE))
    return Finding(outcomes, [conditions(), table(seen, loads)])


def require_logins(port: int) -> None:
    """Raise PollError unless a user has all of the logins."""
    with Redis(port=port) as redis:
        users = redis.scan_iter(match="session:user:*")
        most = max((int(redis.zcard(key)) for key in users), default=0)
    if most < LOGINS:
        raise polling.PollError(f"the user has {most} logins instead of {LOGINS}")


def attack(port: int, token: str) -> load.Burst:
    """The load on one sidecar."""
    return load.Burst(
        port=port,
        path="/auth/sessions",
        method="GET",
        headers=[f"Authorization: Bearer {token}"],
        body_size=0,
        connections=CONNECTIONS,
        seconds=SECONDS,
    )


def use(
    first: int, second: int, unseen: list[str], attacks: list[Future[Load]], seen: Seen
) -> None:
    """Use sessions at both sidecars and end some at the first, while the load lasts."""
    waiting = list(unseen)
    with closing(polling.Line(first)) as here, closing(polling.Line(second)) as there:
        while not any(each.done() for each in attacks):
            fresh = sidecar.logins(first, 1, sidecar.OTHER_USER)
            old = [waiting.pop() for _ in range(4) if waiting]
            for token in (*fresh, *old):
                for line in (there, here, there):
                    ask(line, token, seen)
            seen.ended += fresh
            seen.delays.append(end(fresh[0], here, there))


def ask(line: polling.Line, token: str, seen: Seen) -> None:
    """Send one request with a live session."""
    began = time.monotonic()
    seen.good[line.ask(polling.verify(token))] += 1
    seen.took.append((time.monotonic() - began) * 1e3)


def end(token: str, here: polling.Line, there: polling.Line) -> float:
    """Log out at one sidecar, and return the milliseconds until the other one denies the token.

    Raises PollError if that takes too long.
    """
    status = here.ask(polling.logout(token))
    if status != polling.LOGGED_OUT:
        raise polling.PollError(f"the logout got status {status}")
    answered = time.monotonic()
    while there.ask(polling.verify(token)) != polling.DENIED:
        if time.monotonic() - answered > PATIENCE:
            raise polling.PollError(f"a revoked token is still accepted after {PATIENCE:g} s")
    return (time.monotonic() - answered) * 1e3


def judge(seen: Seen, loads: list[Load], ends: Ends) -> list[Outcome]:
    """Compare the figures with the bars."""
    asked, listed = seen.good.total(), [each.requests - each.status for each in loads]
    wrong, other = seen.good[polling.DENIED], asked - seen.good[polling.ALLOWED]
    return [
        Outcome("good sessions denied with 401", f"{wrong} of {asked:,}", "0", wrong == 0),
        Outcome("good sessions not answered with 200", f"{other} of {asked:,}", "0", other == 0),
        Outcome(
            "tokens accepted after their logout",
            f"{seen.alive} of {len(seen.ended):,}",
            "0",
            seen.alive == 0 and len(seen.ended) > 0,
        ),
        Outcome(
            "breaker",
            f"opened {ends.transitions} times, closed at {ends.closed} of {len(loads)} sidecars",
            f"opened 0 times, closed at {len(loads)}",
            ends == Ends(transitions=0, closed=len(loads)),
        ),
        Outcome(
            "listings answered",
            ", ".join(f"{number / SECONDS:,.0f}/s" for number in listed),
            "some at each",
            all(listed),
        ),
    ]


def conditions() -> str:
    """A description of what was measured."""
    return (
        f"Two sidecars. One user has {LOGINS} logins and lists them on {CONNECTIONS} connections to"
        f" each sidecar for {SECONDS} s, each as fast as it is answered (`GET /auth/sessions`)."
        " Meanwhile another user uses sessions that the second sidecar has not seen, logs in at the"
        " first, uses the new session at both at once, and logs out at the first (one connection to"
        " each). Nothing is pinned."
    )


def table(seen: Seen, loads: list[Load]) -> str:
    """A table with the times."""
    rows = [
        [name, f"{len(took):,}", f"{median(took):.1f}", f"{p99(took):.1f}", f"{max(took):.1f}"]
        for name, took in (
            ("requests of good sessions", seen.took),
            ("logout to 401 elsewhere", seen.delays),
        )
    ]
    rows += [
        [
            f"listings at sidecar {number}",
            f"{each.requests:,}",
            f"{each.p50_us / 1e3:.1f}",
            f"{each.p99_us / 1e3:.1f}",
            "",
        ]
        for number, each in enumerate(loads, 1)
    ]
    return report.table(["", "number", "p50 ms", "p99 ms", "max ms"], rows)
