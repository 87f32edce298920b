"""The faults: how each begins and ends, and what is expected while it lasts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.faults.driver import claims_of
from tests.faults.scene import PASSWORD, key_of
from tests.peers.patience import until
from tests.peers.signed import NAMES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.scene import Scene

    Act = Callable[[Scene], Awaitable[None]]

STEP: Final = 600.0  # seconds; less than the age of the sessions
MID_REPLY: Final = 7  # octets; within the first answer on every connection
NOW_AND_THEN: Final = 1500  # octets of answers after which a connection is reset
GARBAGE: Final = (b"{", b"\xff\x00\xfe", b"[]", b'{"v":1}', b"null", b"1", b"")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `opens`: whether Redis must count as unavailable; None allows either.

    `keeps`: whether Redis still has its data afterwards. `hold`: minimum duration in seconds.
    `clock`: whether the fault affects the sidecar's wall clock.
    """

    name: str
    begin: Act
    end: Act
    opens: bool | None = True
    keeps: bool = True
    hold: float = 1.0
    clock: bool = False


async def kill(scene: Scene) -> None:
    """Kill the server and refuse connections to its port."""
    await asyncio.to_thread(scene.redis.kill)
    await scene.proxy.refuse()


async def start(scene: Scene) -> None:
    """Start the server again."""
    await asyncio.to_thread(scene.redis.start)
    await scene.proxy.listen()


async def restart(scene: Scene) -> None:
    """Kill the server and start it again at once."""
    await asyncio.to_thread(scene.redis.restart)


async def nothing(scene: Scene) -> None:
    """Do nothing, because the fault ends by itself."""


async def freeze(scene: Scene) -> None:
    """Suspend the server."""
    scene.redis.freeze()


async def thaw(scene: Scene) -> None:
    """Resume the server."""
    scene.redis.thaw()


def delay(seconds: float) -> Act:
    """Delay answers by this many seconds."""

    async def begin(scene: Scene) -> None:
        scene.proxy.delay = seconds

    return begin


def cut(octets: int | None) -> Act:
    """Reset connections in the middle of an answer, after this many octets."""

    async def begin(scene: Scene) -> None:
        scene.proxy.cut_after = octets

    return begin


async def swallow(scene: Scene) -> None:
    """Accept connections but let nothing pass."""
    scene.proxy.lose = True


async def pass_on(scene: Scene) -> None:
    """Let data pass again."""
    scene.proxy.lose = False


async def demote(scene: Scene) -> None:
    """Make the server a replica without a master: it serves reads and refuses writes."""
    scene.redis.command("REPLICAOF", "127.0.0.1", "1")


async def demote_silently(scene: Scene) -> None:
    """Make the server a replica without a master that refuses reads as well."""
    scene.redis.command("CONFIG", "SET", "replica-serve-stale-data", "no")
    await demote(scene)


async def promote(scene: Scene) -> None:
    """Make the server a master again."""
    scene.redis.command("REPLICAOF", "NO", "ONE")


async def fill(scene: Scene) -> None:
    """Leave no room for another key, and allow no eviction."""
    scene.redis.command("CONFIG", "SET", "maxmemory", "1")


async def make_room(scene: Scene) -> None:
    """Remove the memory limit."""
    scene.redis.command("CONFIG", "SET", "maxmemory", "0")


async def change_password(scene: Scene) -> None:
    """Change the password and disconnect all clients."""
    scene.redis.command("CONFIG", "SET", "requirepass", "another-password")
    scene.redis.command("CLIENT", "KILL", "TYPE", "normal")


async def change_back(scene: Scene) -> None:
    """Restore the old password."""
    scene.redis.command("CONFIG", "SET", "requirepass", PASSWORD)


async def scribble(scene: Scene) -> None:
    """Overwrite our keys with values that are not sessions, of other types, or another user's."""
    admin, traffic = scene.redis.admin, scene.traffic
    theirs = scene.redis.value(key_of(scene.scouts[0]))
    for number, line in enumerate((*traffic.unknown, *traffic.revoked)):
        admin.delete(key_of(line))
        if number % 3 == 0:
            admin.set(key_of(line), theirs, ex=60)
        elif number % 3 == 1:
            admin.set(key_of(line), GARBAGE[number % len(GARBAGE)], ex=60)
        else:
            admin.rpush(key_of(line), theirs)
    for line in [line for line in traffic.spare if "Bearer" in line]:
        key = NAMES.login(claims_of(line)["sid"])
        admin.delete(key)
        admin.set(key, b"not a hash", ex=60)
    for name in ("alice", "scout"):
        admin.delete(NAMES.user(name))
        admin.set(NAMES.user(name), b"not a sorted set", ex=60)
    damaged = [line for line in traffic.known if line not in (*traffic.spare, *scene.scouts)][:4]
    for line, value in zip(damaged, (*GARBAGE[:3], theirs), strict=True):
        scene.damaged[line] = scene.redis.value(key_of(line))
        del traffic.known[line]
        admin.set(key_of(line), value, ex=60)

    async def all_refused() -> bool:
        return 200 not in [await scene.pod.status(line) for line in damaged]

    await until(all_refused)  # their owners can no longer be determined
    traffic.unknown.extend(damaged)


async def restore(scene: Scene) -> None:
    """Restore the previous values of the sessions that must be allowed again."""
    for line, value in scene.damaged.items():
        scene.traffic.unknown.remove(line)
        scene.redis.admin.set(key_of(line), value, ex=3600)
    scene.strangers.extend(scene.damaged)
    scene.damaged.clear()


def step(seconds: float) -> Act:
    """Step the sidecar's wall clock."""

    async def begin(scene: Scene) -> None:
        assert scene.clock is not None
        await scene.clock.step(seconds)

    return begin


def step_alone(seconds: float) -> Act:
    """Step the wall clock while Redis is unavailable."""

    async def begin(scene: Scene) -> None:
        await kill(scene)
        await until(scene.pod.degraded)
        await step(seconds)(scene)

    return begin


async def start_and_step(scene: Scene) -> None:
    """Start Redis and set the clock right."""
    await start(scene)
    await step(0.0)(scene)


FAULTS: Final = (
    Fault("killed", kill, start, hold=4.0),
    Fault("restarted-with-data", restart, nothing, opens=None),
    Fault("restarted-without-data", kill, start, keeps=False),
    Fault("stopped-and-continued", freeze, thaw),
    Fault("delay-200-ms", delay(0.2), delay(0.0)),
    Fault("delay-2-s", delay(2.0), delay(0.0)),
    Fault("reset-mid-reply", cut(MID_REPLY), cut(None)),
    Fault("reset-now-and-then", cut(NOW_AND_THEN), cut(None), opens=None),
    Fault("black-hole", swallow, pass_on),
    Fault("readonly", demote, promote, opens=False),
    Fault("replica-without-master", demote_silently, promote),
    Fault("maxmemory", fill, make_room, opens=False),
    Fault("wrong-password", change_password, change_back),
    Fault("values-not-ours", scribble, restore, opens=False),
    Fault("clock-forward", step(STEP), step(0.0), opens=False, clock=True),
    Fault("clock-back", step(-STEP), step(0.0), opens=False, clock=True),
    Fault("clock-forward-without-redis", step_alone(STEP), start_and_step, clock=True),
    Fault("clock-back-without-redis", step_alone(-STEP), start_and_step, clock=True),
)
