"""A user of Redis whose password changes, in a file that the sidecar reads."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sidecar.sessions.redis.credential_renewal import RedisCredentials
from sidecar.sessions.redis.credentials import CredentialFile
from sidecar.settings import read_secret
from sidecar.telemetry.metrics import Metrics
from tests.peers.clock import Clock
from tests.peers.patience import until
from tests.topologies.pod import SOON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.peers.redis_server import RedisServer
    from tests.topologies.pod import Pod

USER: Final = "alice"
FIRST: Final = "the-first-password"
SECOND: Final = "the-second-password"
WRONG: Final = "the-wrong-password"
PASSWORDS: Final = (FIRST, SECOND, WRONG)


class Rotation:
    """The user `alice` on some servers, and what the sidecar reads her password from."""

    def __init__(self, folder: Path, *servers: RedisServer) -> None:
        self.file = folder / "password"
        self.servers = servers
        self.clock = Clock()
        self.metrics = Metrics()
        self.give(FIRST)
        for server in servers:
            server.command("ACL", "SETUSER", USER, "on", f">{FIRST}", "~*", "&*", "+@all")
        read = partial(read_secret, str(self.file))
        self.credentials = RedisCredentials(
            CredentialFile(read, "redis_password_file"), USER, self.metrics, monotonic=self.clock
        )

    def give(self, password: str) -> None:
        """Replace the file, as Kubernetes does."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{password}\n")
        new.rename(self.file)

    def allow(self, password: str) -> None:
        """Add a password in Redis."""
        for server in self.servers:
            server.command("ACL", "SETUSER", USER, f">{password}")

    def forbid(self, password: str) -> None:
        """Remove a password in Redis."""
        for server in self.servers:
            server.command("ACL", "SETUSER", USER, f"<{password}")

    async def tick(self, seconds: float = 1.0) -> None:
        """Let the sidecar notice a change."""
        self.clock.advance(seconds)
        await self.credentials.tick()

    async def rotate(self, old: str, new: str) -> None:
        """The documented procedure. At the end, every connection has the new password."""
        self.allow(new)
        self.give(new)
        await until(self.reached, SOON)
        self.forbid(old)

    async def reached(self) -> bool:
        """Let the sidecar notice a change. Whether every connection has the newest password."""
        await self.tick()
        return not self.described["stale_connections"]

    @property
    def described(self) -> dict[str, Any]:
        """What `/status` says."""
        return self.credentials.describe()

    def ids(self, **fields: str) -> set[tuple[int, str]]:
        """The connections of the user, by server and client id; those with these fields."""
        return {
            (server.port, each["id"])
            for server in self.servers
            for each in server.admin.client_list()
            if each["user"] == USER and fields.items() <= each.items()
        }

    def logins(self) -> tuple[int, int]:
        """How many AUTH commands succeeded, and how many failed, since `forget_calls`."""
        done = failed = 0
        for server in self.servers:
            stats: Any = server.admin.info("commandstats")
            found = stats.get("cmdstat_auth", {"calls": 0, "failed_calls": 0})
            done += int(found["calls"]) - int(found["failed_calls"])
            failed += int(found["failed_calls"])
        return done, failed

    def commands(self) -> set[str]:
        """The names of the commands that the servers executed since `forget_calls`."""
        return {name for server in self.servers for name in server.calls()}

    def forget_calls(self) -> None:
        """Reset the counters of `logins` and `commands`."""
        for server in self.servers:
            server.forget_calls()


async def works(pod: Pod) -> None:
    """Log in, look up and log out, using Redis."""
    grant = await pod.login()
    assert await pod.remote.get(grant.session.id) == grant.session
    assert await pod.store.get(grant.session.id) == grant.session
    assert await pod.store.revoke_session(grant.session.sid)
    assert await pod.store.get(grant.session.id) is None
    assert not pod.store.degraded


async def busy(pod: Pod, connections: int = 8) -> None:
    """Open several connections."""
    await asyncio.gather(*(works(pod) for _ in range(connections)))


@contextlib.asynccontextmanager
async def load(pod: Pod, workers: int = 6) -> AsyncIterator[list[int]]:
    """Use the store all the time; the list has one count of finished rounds per worker."""
    done = [0] * workers

    async def work(number: int) -> None:
        while True:
            await works(pod)
            done[number] += 1

    running = [asyncio.create_task(work(number)) for number in range(workers)]
    try:
        yield done
    finally:
        for task in running:
            if not task.done():
                task.cancel()
        outcomes = await asyncio.gather(*running, return_exceptions=True)
    failures = [each for each in outcomes if not isinstance(each, asyncio.CancelledError)]
    assert failures == []
