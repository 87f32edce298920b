"""The check `restarts`: two sidecars behind HAProxy are restarted in turn under load.

Owns the restarts and the count of failed requests. Every request counts: a missing or unexpected
response is a failure, and clients do not retry.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bench import report, witness
from bench.children import PATIENCE, START_SECONDS, free_port
from bench.outcome import Finding, Outcome, disturbed
from bench.sidecar import cheap_hash, login

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from bench.lab import Lab

RESTARTS: Final = 200
CLIENTS: Final = 12  # connections of each kind of request
PAUSE: Final = 0.02  # seconds between a response and the next request on a connection
SLOW: Final = 0.05  # seconds that a slow response takes
DELAY: Final = "100ms"  # DRAIN_DELAY; HAProxy checks readiness every 20 ms
LATE: Final = 0.03  # seconds by which a program may wake up late; within the delay, several do
BODY: Final = b"x" * 10_000
KINDS: Final = {
    "get": b"GET / HTTP/1.1\r\n",
    "post": b"POST / HTTP/1.1\r\nContent-Length: %d\r\n" % len(BODY),
    "slow": b"GET /slow HTTP/1.1\r\n",
    "verify": b"GET /auth/verify HTTP/1.1\r\n",
}


class RestartError(Exception):
    """A sidecar did not start or did not exit as expected."""


@dataclass(slots=True)
class Count:
    """Counts of the responses by kind of request, and of the failures by description."""

    answered: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Slot:
    """One of HAProxy's two servers, and the pid of its current process."""

    name: str
    config: Path
    port: int
    admin_port: int
    pid: int = 0

    @property
    def log(self) -> str:
        """The log of its processes."""
        return Path(f"{self.config}.log").read_text(errors="replace")


@dataclass(slots=True)
class Balanced:
    """HAProxy and the sidecars behind it."""

    port: int
    slots: Sequence[Slot]
    stats: Path
    starter: asyncio.subprocess.Process

    async def start(self, slot: Slot) -> None:
        """Start a sidecar, and wait until HAProxy uses it."""
        slot.pid = int(await self._order(f"run {slot.config}"))
        await self._until(slot, "status", lambda status: status == "UP")

    async def restart(self, slot: Slot) -> int:
        """Stop a sidecar with SIGTERM, start its successor; returns the exit code of the first.

        The successor starts when HAProxy has noticed the stop. Otherwise, a late HAProxy would take
        the successor for its predecessor, and call it up before it is.
        """
        before = await self._stat(slot, "chkdown")
        os.kill(slot.pid, signal.SIGTERM)
        code = int(await self._order(f"wait {slot.pid}"))
        await self._until(slot, "chkdown", lambda count: count != before)
        await self.start(slot)
        return code

    async def _until(self, slot: Slot, name: str, wanted: Callable[[str], bool]) -> None:
        """Wait for what HAProxy says about a server. Raises RestartError after a timeout."""
        end = time.monotonic() + START_SECONDS
        while not wanted(found := await self._stat(slot, name)):
            if time.monotonic() > end:
                raise RestartError(f"{slot.name}: {name} is {found}:\n{slot.log[-1000:]}")
            await asyncio.sleep(0.005)

    async def _stat(self, slot: Slot, name: str) -> str:
        """What HAProxy says about a server: its `status`, or how often it went down (`chkdown`)."""
        reader, writer = await asyncio.open_unix_connection(self.stats)
        writer.write(b"show stat\n")
        text = (await reader.read()).decode()
        writer.close()
        names, *rows = [line.split(",") for line in text.splitlines() if line]
        (row,) = (row for row in rows if row[1] == slot.name)
        return row[names.index(name)]

    async def _order(self, line: str) -> str:
        if self.starter.stdin is None or self.starter.stdout is None:
            raise RestartError("the starter has no pipes")
        self.starter.stdin.write(f"{line}\n".encode())
        answer = await self.starter.stdout.readline()
        if not answer:
            raise RestartError(f"the starter ended during: {line}")
        return answer.decode().strip()


def check(lab: Lab) -> Finding:
    """Run the check."""
    lab.start_redis()
    began = time.monotonic()
    with witness.watching(lab.children) as seen:
        count, codes = asyncio.run(restarted(lab, RESTARTS))
    seconds = time.monotonic() - began
    outcomes = disturbed(judge(count, codes, RESTARTS), seen.control(LATE))
    return Finding(outcomes, [conditions(seconds), table(count)])


async def restarted(lab: Lab, restarts: int) -> tuple[Count, Counter[int]]:
    """Restart the sidecars under load; returns the counts and the exit codes."""
    async with application() as port, balanced(lab, port) as site:
        token = await asyncio.to_thread(login, site.slots[0].port)
        count, ended = Count(), asyncio.Event()
        clients = [
            asyncio.create_task(ask(site.port, kind, token, count, ended))
            for kind in KINDS
            for _ in range(CLIENTS)
        ]
        codes: Counter[int] = Counter()
        try:
            for number in range(restarts):
                codes[await site.restart(site.slots[number % len(site.slots)])] += 1
        finally:
            ended.set()
            await asyncio.gather(*clients)
    return count, codes


async def ask(port: int, kind: str, token: str, count: Count, ended: asyncio.Event) -> None:
    """Act as one client: send requests one by one, on the same connection while it is kept open."""
    head = KINDS[kind] + b"Host: h\r\nAuthorization: Bearer %b\r\n\r\n" % token.encode()
    request = head + BODY if kind == "post" else head
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while not ended.is_set():
        try:
            async with asyncio.timeout(PATIENCE):
                if connection is None:
                    connection = await asyncio.open_connection("127.0.0.1", port)
                reader, writer = connection
                writer.write(request)
                status, kept = await read_answer(reader)
        except (OSError, EOFError, TimeoutError) as error:
            status, kept = repr(error), False
        if status == "200":
            count.answered[kind] += 1
        else:
            count.failures[f"{kind}: {status}"] += 1
        if not kept and connection is not None:
            connection[1].close()
            connection = None
        await asyncio.sleep(PAUSE)
    if connection is not None:
        connection[1].close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[str, bool]:
    """The status, and whether the connection is kept open. Raises EOFError if truncated.

    A status other than 200 is followed by the program that sent it: the sidecar adds a request id.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, length = head.partition(b"content-length: ")
    await reader.readexactly(int(length.split(b"\r\n")[0] or 0))
    status = head.split()[1].decode()
    if status != "200":
        status += " by the sidecar" if b"\r\nx-request-id: " in head else " by HAProxy"
    return status, b"connection: close" not in head and b"content-length: " in head


@contextlib.asynccontextmanager
async def application() -> AsyncIterator[int]:
    """Run an application that responds at once or slowly, after it has read the request body."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        if request.path == "/slow":
            await asyncio.sleep(SLOW)
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def balanced(lab: Lab, upstream_port: int) -> AsyncIterator[Balanced]:
    """Run HAProxy with two sidecars that are up."""
    users = lab.directory / "users.toml"
    users.write_text(f'[[user]]\nname = "alice"\npassword_hash = "{cheap_hash()}"\n')
    slots = [make_slot(lab, name, upstream_port) for name in ("first", "second")]
    values = {"PORT": str(port := free_port())}
    for slot in slots:
        values[slot.name.upper()] = str(slot.port)
        values[f"{slot.name.upper()}_ADMIN"] = str(slot.admin_port)
    config = lab.fill("haproxy-restarts.cfg", "haproxy-restarts.cfg", values)
    lab.children.spawn("haproxy", ["haproxy", "-db", "-f", str(config)]).wait_listening(port)
    starter = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.warm_start"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "JWT_SECRET": lab.secret, "REFRESH_SECRET": lab.refresh_secret},
    )
    site = Balanced(port, slots, lab.directory / "haproxy.sock", starter)
    try:
        for slot in slots:
            await site.start(slot)
        yield site
    finally:
        for slot in slots:
            if slot.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(slot.pid, signal.SIGKILL)
        starter.kill()
        await starter.wait()


def make_slot(lab: Lab, name: str, upstream_port: int) -> Slot:
    """Make a slot for a sidecar: its ports and its configuration."""
    port, admin_port = free_port(), free_port()
    values = {"PORT": str(port), "ADMIN": str(admin_port), "UPSTREAM": str(upstream_port)}
    values["DRAIN"] = DELAY
    config = lab.fill("sidecar-restarts.toml", f"{name}.toml", values)
    return Slot(name, config, port, admin_port)


def judge(count: Count, codes: Counter[int], restarts: int) -> list[Outcome]:
    """Compare the counts with the bars."""
    failed = count.failures.total()
    shown = ", ".join(f"{what} ({number})" for what, number in count.failures.most_common(5))
    asked, kinds = count.answered.total() + failed, len(count.answered)
    measured = f"{failed} of {asked:,}{': ' * bool(shown)}{shown}"
    return [
        Outcome("failed requests", measured, "0", failed == 0),
        Outcome("exits with code 0", f"{codes[0]}", f"{restarts}", codes == {0: restarts}),
        Outcome("kinds answered", f"{kinds}", f"{len(KINDS)}", kinds == len(KINDS)),
    ]


def conditions(seconds: float) -> str:
    """A description of what was done."""
    return (
        "Two sidecars on one Redis behind HAProxy (bench/peers/haproxy-restarts.cfg) are stopped in"
        f" turn by SIGTERM, {RESTARTS} times in {seconds:.0f} s, and started again on the same"
        f" ports after they have ended. DRAIN_DELAY {DELAY}; {CLIENTS} keep-alive connections for"
        " each kind of request. Clients do not retry, and HAProxy does not resend requests that"
        " were already sent."
    )


def table(count: Count) -> str:
    """A table with one row per kind of request."""
    rows = [[kind, f"{count.answered[kind]:,}"] for kind in KINDS]
    return report.table(["request", "answered 200"], rows)
