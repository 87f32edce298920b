"""Password checks: argon2id and bcrypt hashes, decoys that no password matches, a bounded queue."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

import argon2
import bcrypt
import pytest

from sidecar.api import passwords
from sidecar.api.passwords import (
    PasswordChecker,
    Verdict,
    decoy,
    hash_password,
    is_supported,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ARGON2 = QUICK.hash("right")
BCRYPT = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
HTPASSWD = f"$2y${BCRYPT[4:]}"


@pytest.fixture
def checker() -> Iterator[PasswordChecker]:
    """A password checker of the default size."""
    made = PasswordChecker()
    yield made
    made.close()


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(ARGON2, id="argon2id"),
        pytest.param(BCRYPT, id="bcrypt"),
        pytest.param(HTPASSWD, id="bcrypt-of-htpasswd"),
    ],
)
@pytest.mark.parametrize(
    ("password", "verdict"),
    [
        pytest.param("right", Verdict.RIGHT, id="right"),
        pytest.param("wrong", Verdict.WRONG, id="wrong"),
        pytest.param("", Verdict.WRONG, id="empty"),
        pytest.param("r\x00ght", Verdict.WRONG, id="nul"),
        pytest.param("é" * 100, Verdict.WRONG, id="longer-than-72-octets"),
    ],
)
async def test_check(
    checker: PasswordChecker, encoded: str, password: str, verdict: Verdict
) -> None:
    """Every password, whatever characters it has, is either right or wrong and never an error."""
    assert await checker.check(encoded, password) is verdict


def test_own_hash_is_checked_and_supported() -> None:
    """`hash_password` makes a salted argon2id hash that `verify` accepts."""
    encoded = hash_password("demo")
    assert encoded.startswith("$argon2id$")
    assert is_supported(encoded)
    assert verify(encoded, "demo")
    assert encoded != hash_password("demo")


def test_bcrypt_looks_at_72_octets() -> None:
    """A password over bcrypt's limit is cut to 72 octets, as htpasswd does when it hashes."""
    encoded = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert verify(encoded, "x" * 80)


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param("", id="empty"),
        pytest.param("plain", id="plain-text"),
        pytest.param("$apr1$salt$hash", id="md5"),
        pytest.param("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", id="sha1"),
        pytest.param(ARGON2.replace("argon2id", "argon2i"), id="argon2i"),
        pytest.param(ARGON2[:-30], id="argon2id-cut"),
        pytest.param(BCRYPT[:-1], id="bcrypt-cut"),
        pytest.param(BCRYPT.replace("$04$", "$31$"), id="bcrypt-of-days"),
        pytest.param(f"{BCRYPT}\n", id="line-end"),
    ],
)
def test_unsupported(encoded: str) -> None:
    """Any other hash is reported as unsupported, so it is found when the users file is read."""
    assert not is_supported(encoded)


@pytest.mark.parametrize(
    "encoded", [pytest.param(ARGON2, id="argon2"), pytest.param(BCRYPT, id="bcrypt")]
)
def test_decoy_costs_the_same_and_matches_nothing(encoded: str) -> None:
    """A decoy has the parameters, salt and length of its model, but no password matches it."""
    made = decoy(encoded)
    assert is_supported(made)
    assert len(made) == len(encoded)
    assert made != encoded
    assert made[:29] == encoded[:29]
    assert not verify(made, "right")


async def test_busy_beyond_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """While all threads work and the queue is full, a check returns BUSY at once."""
    gate = threading.Event()
    monkeypatch.setattr(passwords, "verify", lambda *_: gate.wait(10))
    checker = PasswordChecker(threads=1, waiting=1)
    try:
        running = [asyncio.create_task(checker.check(ARGON2, "right")) for _ in range(2)]
        await asyncio.sleep(0)
        assert await checker.check(ARGON2, "right") is Verdict.BUSY
        gate.set()
        assert await asyncio.gather(*running) == [Verdict.RIGHT, Verdict.RIGHT]
        assert await checker.check(ARGON2, "right") is Verdict.RIGHT
    finally:
        gate.set()
        checker.close()


async def test_a_cancelled_check_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled check, running or queued, releases its place."""
    gate = threading.Event()
    monkeypatch.setattr(passwords, "verify", lambda *_: gate.wait(10))
    checker = PasswordChecker(threads=1, waiting=1)
    try:
        gone = [asyncio.create_task(checker.check(ARGON2, "right")) for _ in range(2)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        gate.set()
        assert await checker.check(ARGON2, "right") is Verdict.RIGHT
    finally:
        gate.set()
        checker.close()


async def test_hashing_yields_to_requests(
    checker: PasswordChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that checks passwords has a lower priority than this one, which keeps its own."""
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    found: list[int] = []

    def look(encoded: str, password: str) -> bool:
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return encoded == password

    monkeypatch.setattr(passwords, "verify", look)
    await checker.check("", "")
    assert found == [min(own + 5, 19)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
