"""Limits of guesses at the login endpoint: who is refused, how, and who is not."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from sidecar.api import passwords
from sidecar.api.guesses import GuessLimits
from sidecar.api.passwords import PasswordChecker
from sidecar.api.slow_lane import SlowLane
from tests.api.control_plane import BROWSER, problem
from tests.peers.patience import until

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from tests.api.control_plane import Api, Clock, Starter

HERE, THERE = "192.0.2.1", "198.51.100.1"


async def post(
    api: Api, address: str = HERE, name: str = "alice", password: str = "wrong"
) -> ClientResponse:
    """Try to log in. The address is that of the data plane's peer."""
    body = {"username": name, "password": password}
    return await api.client.post(
        "/auth/login", json=body, headers={"X-Forwarded-For": address, "X-Request-Id": "r1"}
    )


async def statuses(api: Api, number: int, *arguments: str) -> list[int]:
    """The statuses of so many attempts."""
    return [(await post(api, *arguments)).status for _ in range(number)]


async def test_too_many_failures(api: Api, clock: Clock) -> None:
    """Then the answer is 429 with the seconds to wait, even for the right password."""
    assert await statuses(api, 11) == [401] * 10 + [429]
    answer = await post(api, password="pw-alice")
    assert answer.status == 429
    document = await problem(answer)
    wait = int(answer.headers["Retry-After"])
    assert document == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": f"Too many failed attempts to sign in. Try again in {-(-wait // 60)} minutes.",
        "request_id": "r1",
    }
    assert answer.headers["Cache-Control"] == "no-store"
    assert api.logins("password", "limited") == 2
    clock.now += wait - 1
    assert (await post(api, password="pw-alice")).status == 429
    clock.now += 1
    assert (await post(api, password="pw-alice")).status == 200


async def test_nobody_is_locked_out_from_elsewhere(api: Api) -> None:
    """A guesser at one address costs the user nothing at another."""
    await statuses(api, 30)
    assert (await post(api, THERE, password="pw-alice")).status == 200


async def test_no_hash_is_computed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused attempt costs no password check."""
    await statuses(api, 11)
    monkeypatch.setattr(passwords, "verify", lambda *_: pytest.fail("a hash was computed"))
    assert await statuses(api, 20) == [429] * 20


@pytest.mark.parametrize("name", ["nobody", "gone", "Alice", "", "hunter2\x00", "x" * 30_000])
async def test_unknown_users_are_limited_as_well(api: Api, name: str) -> None:
    """The answers do not depend on whether the user exists."""
    known = [await post(api) for _ in range(12)]
    unknown = [await post(api, THERE, name) for _ in range(12)]
    for one, other in zip(known, unknown, strict=True):
        assert (one.status, await one.read()) == (other.status, await other.read())
        assert one.headers.get("Retry-After") == other.headers.get("Retry-After")


async def test_a_form(api: Api) -> None:
    """A browser gets the sign-in page with a plain sentence, and the name that was typed."""
    form = {"username": "alice", "password": "wrong", "rd": "/x"}
    for _ in range(10):
        await api.client.post("/auth/login", data=form, headers=BROWSER)
    answer = await api.client.post("/auth/login", data=form, headers=BROWSER)
    page = await answer.text()
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) > 60
    assert "Too many failed attempts to sign in. Try again in " in page
    assert " minutes." in page
    assert 'role="status"' in page
    assert 'value="alice"' in page
    assert 'value="/x"' in page
    assert "WWW-Authenticate" not in answer.headers
    assert api.logins("form", "limited") == 1


@pytest.mark.parametrize(
    ("said", "is_one"),
    [
        pytest.param("{0}.{0}.{0}.{0}, 192.0.2.1, 10.0.0.1", True, id="what-the-client-says"),
        pytest.param("{0}.{0}.{0}.{0}, 192.0.2.1", True, id="an-untrusted-peer"),
        pytest.param("192.0.2.1:{0}, 10.0.0.1", True, id="ports"),
        pytest.param("[2001:db8::{0}]:443, 10.0.0.1", True, id="one-64"),
        pytest.param("::ffff:192.0.2.1, 10.0.0.{0}", True, id="many-proxies"),
        pytest.param("192.0.2.{0}, 10.0.0.1", False, id="many-clients"),
        pytest.param("2001:db8:0:{0}::1, 10.0.0.1", False, id="many-64"),
    ],
)
async def test_the_address(api: Api, said: str, is_one: bool) -> None:  # noqa: FBT001 (a table)
    """The address is the one that the last trusted proxy saw, whatever stands before it."""
    found = [(await post(api, said.format(number))).status for number in range(10, 21)]
    assert found == [401] * 10 + [429 if is_one else 401]


async def test_a_user_who_is_guessed_everywhere(start: Starter) -> None:
    """At new addresses the login is slow, but works; at a familiar one it does not even wait."""
    lane = SlowLane(pause=0.0)
    api = await start(slow_lane=lane)
    api.change(guesses=GuessLimits(user=5, key=b"k"))
    await post(api, THERE, password="pw-alice")
    for number in range(8):
        assert (await post(api, f"203.0.113.{number}")).status == 401
    assert (await post(api, "203.0.113.99", password="pw-alice")).status == 200
    api = await start(slow_lane=SlowLane(places=0, total=0), guesses=api.services.guesses)
    api.change(guesses=GuessLimits(user=5, key=b"k"))
    assert (await post(api, THERE, password="pw-alice")).status == 200


async def test_no_place_in_the_slow_lane(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds no place is told to try again in a moment."""
    lane = SlowLane(pause=600.0, places=1)
    api = await start(slow_lane=lane)
    api.change(guesses=GuessLimits(user=1, key=b"k"))
    for number in (1, 2):
        assert (await post(api, f"203.0.113.{number}")).status == 401
    monkeypatch.setattr(passwords, "verify", lambda *_: pytest.fail("a hash was computed"))
    first = asyncio.create_task(post(api, "203.0.113.1", password="pw-alice"))
    await until(lambda: "1 of" in repr(lane))
    answer = await post(api, "203.0.113.2", password="pw-alice")
    assert (answer.status, answer.headers["Retry-After"]) == (429, "2")
    assert (await problem(answer))["detail"].endswith("Try again in a moment.")
    lane._waiting[0].left.set()  # noqa: SLF001 - another address takes its place
    assert (await first).status == 429


async def test_forty_connections(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty connections of wrong passwords do not cost one right login from elsewhere."""
    checking, gate = threading.Semaphore(0), threading.Event()
    verify = passwords.verify

    def slow(encoded: str, given: str) -> bool:
        checking.release()
        gate.wait(10)
        return verify(encoded, given)

    monkeypatch.setattr(passwords, "verify", slow)
    api = await start(passwords=PasswordChecker(threads=1, waiting=8))
    guesses = [asyncio.create_task(post(api, THERE, f"user-{number % 4}")) for number in range(40)]
    try:
        assert await asyncio.to_thread(checking.acquire, timeout=5)
        rights = [
            asyncio.create_task(post(api, HERE, name, f"pw-{name}")) for name in ("alice", "admin")
        ]
        await until(lambda: "8 wait" in repr(api.services.passwords._queue))  # noqa: SLF001
    finally:
        gate.set()
    assert [answer.status for answer in await asyncio.gather(*rights)] == [200, 200]
    found = [answer.status for answer in await asyncio.gather(*guesses)]
    assert set(found) <= {401, 503}
    assert found.count(503) >= 30
