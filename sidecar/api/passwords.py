"""Checking passwords against argon2id and bcrypt hashes, off the event loop and within bounds.

Owns the thread pool, and the decoy that makes an unknown user cost as much as a known one. Knows no
users, requests or sessions.
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import TYPE_CHECKING, Final

import argon2
import bcrypt

if TYPE_CHECKING:
    from concurrent.futures import Future

# OWASP's argon2id parameters: two checks at a time take 38 MiB of a pod's memory, where those of
# RFC 9106 take 128, and 20 ms each. A hash is checked with the parameters it carries.
_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

_ARGON2 = re.compile(
    r"\$argon2id\$v=19\$m=[0-9]{1,7},t=[0-9]{1,3},p=[0-9]{1,2}\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}"
)
_BCRYPT = re.compile(r"\$2[aby]\$(?:0[4-9]|1[0-9])\$[./A-Za-z0-9]{53}")
_BCRYPT_LIMIT: Final = 72  # octets: bcrypt never looked at more; since version 5 it refuses more
_BCRYPT_DIGEST: Final = 31  # characters


class Verdict(Enum):
    """What came of a check. BUSY says nothing about the password: too many checks were waiting."""

    RIGHT = "right"
    WRONG = "wrong"
    BUSY = "busy"


class PasswordChecker:
    """Checks passwords on `threads` threads of its own; at most `waiting` more wait for one."""

    __slots__ = ("_executor", "_free", "_threads", "_waiting")

    def __init__(self, *, threads: int = 2, waiting: int = 32) -> None:
        self._threads = threads
        self._waiting = waiting
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="password")
        self._free = threading.BoundedSemaphore(threads + waiting)

    def __repr__(self) -> str:
        return f"<PasswordChecker {self._threads} threads, {self._waiting} may wait>"

    async def check(self, encoded: str, password: str) -> Verdict:
        """Whether the password belongs to the hash, or BUSY at once when too many checks wait."""
        if not self._free.acquire(blocking=False):
            return Verdict.BUSY
        future = self._executor.submit(verify, encoded, password)
        future.add_done_callback(
            self._release
        )  # once, also for one that was cancelled in the queue
        return Verdict.RIGHT if await asyncio.wrap_future(future) else Verdict.WRONG

    def close(self) -> None:
        """Drop what waits; what runs ends by itself within a tenth of a second."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _release(self, _: Future[bool]) -> None:
        self._free.release()


def hash_password(password: str) -> str:
    """The argon2id hash to put into a users file. Blocks for some 20 ms."""
    return _HASHER.hash(password)


def is_supported(encoded: str) -> bool:
    """Whether `verify` can use it: argon2id in its PHC form, or bcrypt as htpasswd writes it."""
    return (_ARGON2.fullmatch(encoded) or _BCRYPT.fullmatch(encoded)) is not None


def verify(encoded: str, password: str) -> bool:
    """Whether the password belongs to a supported hash. Blocks for 20 to 120 ms."""
    if encoded.startswith("$2"):
        return bcrypt.checkpw(password.encode()[:_BCRYPT_LIMIT], encoded.encode())
    try:
        return _HASHER.verify(encoded, password)
    except argon2.exceptions.VerificationError:
        return False


def decoy(encoded: str) -> str:
    """A hash that no password belongs to, as costly to check as the given one."""
    if encoded.startswith("$2"):
        noise = base64.b64encode(secrets.token_bytes(24), b"./").decode()
        return encoded[:-_BCRYPT_DIGEST] + noise[:_BCRYPT_DIGEST]
    head, _, digest = encoded.rpartition("$")
    noise = base64.b64encode(secrets.token_bytes(len(digest) * 3 // 4)).decode().rstrip("=")
    return f"{head}${noise}"
