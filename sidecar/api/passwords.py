"""Checks passwords against argon2id and bcrypt hashes, on a few threads beside the event loop.

Owns these threads and their queue, and the decoys that make an unknown user cost as much as a known
one. Knows no users, requests or sessions.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Final

import argon2

from sidecar.api.turns import FairQueue, Place, Turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Future

# OWASP's argon2id parameters: a check takes 20 ms, and two at a time take 38 MiB of a pod's memory;
# with the parameters of RFC 9106, 128 MiB. A hash is checked with the parameters that it carries.
_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

_ARGON2 = re.compile(
    r"\$argon2id\$v=19\$m=[0-9]{1,7},t=[0-9]{1,3},p=[0-9]{1,2}\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}"
)
_BCRYPT = re.compile(r"\$2[aby]\$(?:0[4-9]|1[0-9])\$[./A-Za-z0-9]{53}")
_BCRYPT_LIMIT: Final = (
    72  # bytes: bcrypt ignores what follows; since version 5 the library refuses it
)
_BCRYPT_DIGEST: Final = 31  # characters
# A third of the CPU time of a thread with normal priority, if both want it (sched(7)).
_NICE: Final = 5


class Verdict(Enum):
    """The result of a check. Only RIGHT and WRONG say something about the password."""

    RIGHT = "right"
    WRONG = "wrong"
    BUSY = "busy"  # too many checks were waiting
    GONE = "gone"  # the client disconnected before its turn
    REFUSED = "refused"  # `may_begin` said no


class PasswordChecker:
    """Checks passwords on `threads` threads; at most `waiting` more checks wait for one.

    The threads have a lower priority than the event loop's, so that hashing on a busy machine takes
    little time from requests.
    """

    __slots__ = ("_executor", "_queue", "_threads", "_waiting")

    def __init__(self, *, threads: int = 2, waiting: int = 32) -> None:
        self._threads = threads
        self._waiting = waiting
        self._executor = ThreadPoolExecutor(
            threads, thread_name_prefix="password", initializer=_lower_priority
        )
        self._queue = FairQueue(threads, waiting)

    def __repr__(self) -> str:
        return f"<PasswordChecker {self._threads} threads, {self._waiting} may wait>"

    async def check(
        self,
        encoded: str,
        password: str,
        place: Place | None = None,
        may_begin: Callable[[], Awaitable[bool]] | None = None,
    ) -> Verdict:
        """Whether the password matches the hash, when it is this place's turn.

        `may_begin` is called then, and decides whether the hash is computed at all.
        """
        place = Place() if place is None else place
        turn = await self._queue.wait(place)
        if turn is not Turn.READY:
            return Verdict.BUSY if turn is Turn.BUSY else Verdict.GONE
        future: Future[bool] | None = None
        try:
            if may_begin is not None and not await may_begin():
                return Verdict.REFUSED
            future = self._executor.submit(verify, encoded, password)
            return Verdict.RIGHT if await asyncio.wrap_future(future) else Verdict.WRONG
        finally:
            self._release_after(future, place)

    def close(self) -> None:
        """Drop the waiting checks. A running check ends by itself within a tenth of a second."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _release_after(self, future: Future[bool] | None, place: Place) -> None:
        """End the turn when its thread is free, which is later if the caller was cancelled."""
        if future is None or future.done():
            self._queue.release(place)
            return
        loop = asyncio.get_running_loop()

        def release(_: Future[bool]) -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._queue.release, place)

        future.add_done_callback(release)


def _lower_priority() -> None:
    """Make this thread nicer. On Linux, that concerns one thread and not its process (nice(2))."""
    thread = threading.get_native_id()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICE)


def hash_password(password: str) -> str:
    """The argon2id hash for a users file. Blocks for about 20 ms."""
    return _HASHER.hash(password)


def is_supported(encoded: str) -> bool:
    """Whether `verify` can use the hash: argon2id in PHC form, or bcrypt as htpasswd writes it."""
    return (_ARGON2.fullmatch(encoded) or _BCRYPT.fullmatch(encoded)) is not None


def verify(encoded: str, password: str) -> bool:
    """Whether the password matches a supported hash. Blocks for 20 to 120 ms."""
    if encoded.startswith("$2"):
        import bcrypt  # noqa: PLC0415 (takes half a MiB; only htpasswd files need it)

        return bcrypt.checkpw(password.encode()[:_BCRYPT_LIMIT], encoded.encode())
    try:
        return _HASHER.verify(encoded, password)
    except argon2.exceptions.VerificationError:
        return False


def decoy(encoded: str) -> str:
    """A hash that no password matches, as costly to check as the given one."""
    if encoded.startswith("$2"):
        noise = base64.b64encode(secrets.token_bytes(24), b"./").decode()
        return encoded[:-_BCRYPT_DIGEST] + noise[:_BCRYPT_DIGEST]
    head, _, digest = encoded.rpartition("$")
    noise = base64.b64encode(secrets.token_bytes(len(digest) * 3 // 4)).decode().rstrip("=")
    return f"{head}${noise}"
