"""Checks passwords against argon2id and bcrypt hashes, on a few threads beside the event loop.

Owns these threads, and the decoys that make an unknown user cost as much as a known one. Knows no
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


class Verdict(Enum):
    """The result of a check. BUSY says nothing about the password: too many checks were waiting."""

    RIGHT = "right"
    WRONG = "wrong"
    BUSY = "busy"


class PasswordChecker:
    """Checks passwords on `threads` threads; at most `waiting` more checks wait for one."""

    __slots__ = ("_executor", "_free", "_threads", "_waiting")

    def __init__(self, *, threads: int = 2, waiting: int = 32) -> None:
        self._threads = threads
        self._waiting = waiting
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="password")
        self._free = threading.BoundedSemaphore(threads + waiting)

    def __repr__(self) -> str:
        return f"<PasswordChecker {self._threads} threads, {self._waiting} may wait>"

    async def check(self, encoded: str, password: str) -> Verdict:
        """Whether the password matches the hash; BUSY, at once, if too many checks are waiting."""
        if not self._free.acquire(blocking=False):
            return Verdict.BUSY
        future = self._executor.submit(verify, encoded, password)
        # The callback runs once, even for a check that was cancelled while it waited.
        future.add_done_callback(self._release)
        return Verdict.RIGHT if await asyncio.wrap_future(future) else Verdict.WRONG

    def close(self) -> None:
        """Drop the waiting checks. A running check ends by itself within a tenth of a second."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _release(self, _: Future[bool]) -> None:
        self._free.release()


def hash_password(password: str) -> str:
    """The argon2id hash for a users file. Blocks for about 20 ms."""
    return _HASHER.hash(password)


def is_supported(encoded: str) -> bool:
    """Whether `verify` can use the hash: argon2id in PHC form, or bcrypt as htpasswd writes it."""
    return (_ARGON2.fullmatch(encoded) or _BCRYPT.fullmatch(encoded)) is not None


def verify(encoded: str, password: str) -> bool:
    """Whether the password matches a supported hash. Blocks for 20 to 120 ms."""
    if encoded.startswith("$2"):
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
