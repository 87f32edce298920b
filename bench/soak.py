"""The check `soak`: a sidecar under full load for a long time, with misbehaving clients.

Owns the sequence of steps. Resources must not grow and must be released after the load, the log
must have no faults, and well-behaved clients must not notice anything. The bars are in `steady`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import aiohttp
import uvloop

from bench import load, seeding, sidecar, unruly, usage, vitals
from bench.children import PATIENCE
from bench.orderly import LIVES, LOADS, behave
from bench.outcome import Finding
from bench.restarts import Count
from bench.scenarios import BROWSER
from bench.steady import Plan, Seen, conditions, judge, load_tables, memory_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bench.children import Child
    from bench.lab import Lab
    from bench.vitals import Vitals

SECONDS: Final = 600
STORED: Final = 3_000  # sessions in Redis; more than the caches of peers/sidecar-soak.toml hold
REST_SECONDS: Final = 60.0  # after the load, until everything must be released
COOKIE: Final = "__Host-session"
# Python ignores ResourceWarning by default; it reports sockets and transports left open.
MODULE: Final = ("-W", "always::ResourceWarning", "-m", "sidecar")


class SoakError(Exception):
    """The load ended early; the message says why."""


def check(lab: Lab, seconds: int) -> Finding:
    """Run the check with this many seconds of load."""
    lab.start_redis()
    plan = Plan.of(seconds)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seen = runner.run(soaked(lab, plan))
    details = [conditions(seen, plan), memory_line(seen, plan), load_tables(seen)]
    return Finding(judge(seen, plan), details)


async def soaked(lab: Lab, plan: Plan) -> Seen:
    """Run all steps in a lab whose upstream and Redis are running."""
    port = lab.start_nginx("upstream-soak", {"APP": str(lab.start_streams())})
    started = await asyncio.to_thread(
        partial(
            sidecar.start,
            *(lab, "sidecar-soak"),
            redis=True,
            upstream_port=port,
            module=MODULE,
            template="sidecar-soak.toml",
        )
    )
    look = partial(vitals.read, started, upstream_port=port, redis_port=lab.redis_port)
    before = await at_start(look)
    fresh = await asyncio.to_thread(fill, lab, started)
    token = await asyncio.to_thread(sidecar.login, started.port)
    crowd = unruly.Crowd(started.port, token, itertools.cycle(fresh))
    answered = Count()
    began, used = time.monotonic(), usage.usage([started.child.pid]).nanoseconds
    async with clients(started.port, crowd, answered):
        loads = start_loads(lab, started.port, token, await log_in_browser(started.port), plan)
        memory = await watch(started.child.pid, plan, began)
        under_load = await asyncio.to_thread(look)
        for name, child in loads.items():
            await note(name, child, answered)
        used = usage.usage([started.child.pid]).nanoseconds - used
        seconds = time.monotonic() - began
    rest = await at_rest(look, before)
    code = await asyncio.to_thread(leave, started.child)
    log = started.child.log.read_text(errors="replace").splitlines()
    cpu = used / 1e9 / seconds
    return Seen(before, under_load, rest, memory, cpu, answered, crowd, log, code)


def fill(lab: Lab, started: sidecar.Started) -> list[str]:
    """Write sessions to Redis and use each once, so that bounded caches are full from then on."""
    pairs, mac = seeding.mint(lab, STORED), seeding.mac_of(lab)
    written = [seeding.token_command(pair.grant.session, mac) for pair in pairs]
    seeding.insert(lab.redis_port, written)
    tokens = [pair.access_token for pair in pairs]
    file = seeding.write_tokens(lab.directory / "tokens", tokens)
    each = load.Rotation(file, 0, STORED)
    burst = load.Burst(started.port, "/", "GET", (), 0, connections=32, seconds=30, rotation=each)
    load.run(burst, cpu=lab.other_cpu)
    return tokens


def start_loads(lab: Lab, port: int, token: str, cookie: str, plan: Plan) -> dict[str, Child]:
    """Start a wrk for each entry of LOADS."""
    children = {}
    for name, work in LOADS.items():
        credential = f"Cookie: {cookie}" if work.cookie else f"Authorization: Bearer {token}"
        headers = [credential, *(line for line in BROWSER if not line.startswith("Cookie: "))]
        sent = work.method, headers, work.body_size, work.connections, plan.seconds
        argv = load.Burst(port, work.path, *sent).argv()
        title = f"wrk {name}".replace(" ", "-")
        children[name] = lab.children.spawn(title, argv, cpu=lab.other_cpu)
    return children


async def log_in_browser(port: int) -> str:
    """Log in through the sign-in form, and return the Cookie header's value."""
    form = {"username": sidecar.USER, "password": sidecar.PASSWORD}
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with aiohttp.request(
        *("POST", f"http://127.0.0.1:{port}/auth/login"),
        data=form,
        headers=headers,
        allow_redirects=False,
    ) as answer:
        if COOKIE not in answer.cookies:
            raise SoakError(f"the sign-in form got status {answer.status}")
        return f"{COOKIE}={answer.cookies[COOKIE].value}"


@contextlib.asynccontextmanager
async def clients(port: int, crowd: unruly.Crowd, answered: Count) -> AsyncIterator[None]:
    """Run the well-behaved and the misbehaving clients until the block ends."""
    over = asyncio.Event()
    lives = [asyncio.create_task(behave(port, answered, over)) for _ in range(LIVES)]
    misbehaving = list(crowd.clients())
    try:
        yield
    finally:
        over.set()
        for task in misbehaving:
            task.cancel()
        ends = await asyncio.gather(*misbehaving, return_exceptions=True)
        await asyncio.gather(*lives)
    for end in ends:
        if isinstance(end, Exception):  # a bug in the suite: these tasks end only when cancelled
            raise SoakError(f"a misbehaving client failed: {end!r}") from end


async def watch(pid: int, plan: Plan, began: float) -> list[tuple[float, int]]:
    """Read the resident memory of the process regularly during the load."""
    memory = []
    pause = min(1.0, plan.window / 10)
    while (elapsed := time.monotonic() - began) < plan.seconds:
        memory.append((elapsed, usage.rss([pid])))
        await asyncio.sleep(pause)
    return memory


async def note(name: str, child: Child, answered: Count) -> None:
    """Add the results of a wrk that has ended. Raises SoakError if it fails or does not end."""
    try:
        code = await asyncio.to_thread(child.process.wait, PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise SoakError(f"wrk did not end: {name}") from error
    if code:
        raise SoakError(f"wrk ended with status {code} ({name}): {child.tail()}")
    found = load.parse_output(child.log.read_text())
    errors = found.errors(denied=False)
    answered.answered[name] += found.requests - found.status
    if errors:
        answered.failures[f"{name}: {found}"] += errors


async def at_start(look: Callable[[], Vitals]) -> Vitals:
    """The vitals before the first request, once the number of tasks no longer grows."""
    while True:
        first = await asyncio.to_thread(look)
        await asyncio.sleep(1)
        second = await asyncio.to_thread(look)
        if second.tasks <= first.tasks:
            return first


async def at_rest(look: Callable[[], Vitals], before: Vitals) -> Vitals:
    """The vitals once the sidecar is as idle as before, or else after REST_SECONDS."""
    end = time.monotonic() + REST_SECONDS
    now = await asyncio.to_thread(look)
    while not now.as_idle_as(before) and time.monotonic() < end:
        await asyncio.sleep(0.1)
        now = await asyncio.to_thread(look)
    return now


def leave(child: Child) -> int:
    """Terminate the sidecar, and return its exit code. Raises SoakError if it does not exit."""
    child.process.terminate()
    try:
        return child.process.wait(PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise SoakError(f"the sidecar does not exit:\n{child.tail()}") from error
