"""The check `refreshes`: what one user with a right password can make Redis keep.

One login is refreshed as fast as the sidecar allows, then the user logs in thousands of times.
"""

from __future__ import annotations

import http.client
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import redis

from bench import report, sidecar
from bench.children import PATIENCE, StartError
from bench.outcome import Finding, Outcome
from bench.scenarios import KIB

if TYPE_CHECKING:
    from bench.lab import Lab

SECONDS = 60
LOGINS = 10_000
MAX_SESSIONS = 100  # the sidecar's default
GROWTH_LIMIT = 10 * KIB
FORGOTTEN_AFTER = 16  # seconds: the default REFRESH_GRACE, the margin for clocks, and one more
KINDS = ("sid", "token", "refresh")  # of keys that each login has one of


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What refreshing did; sizes in bytes are those of all keys, each with its overhead."""

    refreshes: int
    refusals: int
    before: int
    after: int
    later: int


def check(lab: Lab) -> Finding:
    """Run the check."""
    lab.start_redis()
    started = sidecar.start(lab, "sidecar", redis=True, max_sessions=MAX_SESSIONS)
    with closing(redis.Redis(port=lab.redis_port)) as client:
        refreshed = refresh(started.port, client)
        tokens = sidecar.logins(started.port, LOGINS)
        live = sum(is_live(started.port, token) for token in tokens[-2 * MAX_SESSIONS :])
        kept = {kind: count(client, kind) for kind in KINDS}
        after = size(client)
    return Finding(
        [*judge_refreshes(refreshed), *judge_logins(kept, live)], [table(refreshed, after)]
    )


def refresh(port: int, client: redis.Redis) -> Refreshed:
    """Refresh one login for `SECONDS`, without pause even if a refresh is refused."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        login = {"username": sidecar.USER, "password": sidecar.PASSWORD}
        status, tokens = post(connection, "/auth/login", login)
        if status != 200:
            raise StartError(f"login at the sidecar got status {status}")
        before, ends, refreshes, refusals = size(client), time.monotonic() + SECONDS, 0, 0
        while time.monotonic() < ends:
            asked = {"refresh_token": tokens["refresh_token"]}
            status, answer = post(connection, "/auth/refresh", asked)
            if status == 429:
                refusals += 1
            elif status == 200:
                tokens, refreshes = answer, refreshes + 1
            else:
                raise StartError(f"refresh at the sidecar got status {status}")
        after = size(client)
        time.sleep(FORGOTTEN_AFTER)
        return Refreshed(refreshes, refusals, before, after, size(client))


def post(
    connection: http.client.HTTPConnection, path: str, body: dict[str, str]
) -> tuple[int, dict[str, str]]:
    """Post JSON. Returns the status and, of a success, the texts of the answer."""
    connection.request(
        "POST", path, msgspec.json.encode(body), {"Content-Type": "application/json"}
    )
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        return response.status, {}
    found = msgspec.json.decode(answer, type=dict[str, str | int])
    return response.status, {name: str(value) for name, value in found.items()}


def is_live(port: int, token: str) -> bool:
    """Whether the sidecar accepts an access token."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request("GET", "/auth/verify", headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status == 200


def size(client: redis.Redis) -> int:
    """The memory of all keys in bytes, each with its overhead, to the last element."""
    return sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter(count=1000))


def count(client: redis.Redis, kind: str) -> int:
    """The number of keys of this kind."""
    return sum(1 for _ in client.scan_iter(match=f"session:{kind}:*", count=1000))


def judge_refreshes(done: Refreshed) -> list[Outcome]:
    """Compare what refreshing added with the bar; it proves nothing without refreshes."""
    grown, left = done.after - done.before, done.later - done.before
    name = f"Redis after {done.refreshes:,} refreshes in {SECONDS} s"
    bar, many = f"under {GROWTH_LIMIT // KIB} KiB more", done.refreshes >= SECONDS // 2
    held = grown < GROWTH_LIMIT and many
    shown = f"{grown / KIB:.1f} KiB more"
    return [
        Outcome(name, shown, bar, held),
        Outcome("… when its grace is over", f"{left:,} bytes more", "under 1 KiB", left < KIB),
    ]


def judge_logins(kept: dict[str, int], live: int) -> list[Outcome]:
    """Compare the logins that are left with the bar; there are as many keys of each kind."""
    shown = ", ".join(f"{number} {kind}" for kind, number in kept.items())
    held = set(kept.values()) == {MAX_SESSIONS} and live == MAX_SESSIONS
    return [
        Outcome(f"logins left of {LOGINS:,}", f"{shown}; {live} accepted", f"{MAX_SESSIONS}", held)
    ]


def table(done: Refreshed, after: int) -> str:
    """The sizes as a Markdown table."""
    rows = [
        ["one login", f"{done.before:,}"],
        [f"{done.refreshes:,} refreshes and {done.refusals:,} refusals later", f"{done.after:,}"],
        [f"{FORGOTTEN_AFTER} s after that", f"{done.later:,}"],
        [f"after {LOGINS:,} logins of the same user", f"{after:,}"],
    ]
    return report.table(["keys in Redis", "bytes"], rows)
