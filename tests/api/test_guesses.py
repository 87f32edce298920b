"""The defence against guesses by itself: what counts, what blocks, and for how long."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sidecar.api.guesses import FAMILIAR_FOR, Blocked, GuessDefence, GuessLimits

if TYPE_CHECKING:
    from tests.api.control_plane import Clock

LIMITS = GuessLimits(user_address=3, address=6, user=8, window=100.0, key=b"k")
HERE, THERE = "192.0.2.1", "198.51.100.1"


class Guesser:
    """Makes attempts, as the login does."""

    def __init__(self, clock: Clock, limits: GuessLimits = LIMITS) -> None:
        self.clock = clock
        self.limits = limits
        self.defence = GuessDefence(clock=clock)

    async def fail(self, name: str, address: str, *, user: str = "") -> float:
        """A wrong attempt: 0, or the seconds for which it is blocked."""
        attempt = self.defence.attempt(name, address, self.limits)
        found = await self.defence.look(attempt)
        blocked = (
            found if isinstance(found, Blocked) else await self.defence.count(attempt, user=user)
        )
        return 0.0 if blocked is None else blocked.wait

    async def succeed(self, name: str, address: str) -> bool:
        """A right attempt: whether it was let through."""
        if await self.fail(name, address):
            return False
        await self.defence.forgive(self.defence.attempt(name, address, self.limits))
        return True

    async def is_slow(self, name: str, address: str) -> bool:
        """Whether an attempt takes the slow lane."""
        found = await self.defence.look(self.defence.attempt(name, address, self.limits))
        assert not isinstance(found, Blocked)
        return found.is_slow


@pytest.fixture
def guesser(clock: Clock) -> Guesser:
    """Makes attempts at a defence with low limits. A window begins now."""
    clock.now -= clock.now % LIMITS.window
    return Guesser(clock)


async def test_a_user_at_an_address(guesser: Guesser) -> None:
    """After so many failures this user is blocked at this address, and nowhere else."""
    assert [await guesser.fail("alice", HERE) for _ in range(3)] == [0, 0, 0]
    assert await guesser.fail("alice", HERE) > 0
    assert not await guesser.succeed("alice", HERE)  # else a block would not hinder guessing
    assert await guesser.succeed("alice", THERE)
    assert await guesser.succeed("bob", HERE)


async def test_it_ends_when_it_said(guesser: Guesser) -> None:
    """The wait that is told is enough, and not more than two windows."""
    wait = [await guesser.fail("alice", HERE) for _ in range(4)][-1]
    assert 0 < wait <= 2 * LIMITS.window
    guesser.clock.now += wait - 0.01
    assert 0 < await guesser.fail("alice", HERE) < 0.02
    guesser.clock.now += 0.02
    assert await guesser.succeed("alice", HERE)


async def test_blocked_attempts_do_not_prolong_it(guesser: Guesser) -> None:
    """Trying again and again does not move the end."""
    wait = [await guesser.fail("alice", HERE) for _ in range(4)][-1]
    for _ in range(500):
        assert await guesser.fail("alice", HERE) == wait
    assert len(guesser.defence._table) == 3  # noqa: SLF001 - and takes no memory


async def test_a_clock_that_is_set_back(guesser: Guesser) -> None:
    """A block from a future that was none does not last until then."""
    while not await guesser.fail("alice", HERE):
        pass
    guesser.clock.now -= 86_400
    assert await guesser.fail("alice", HERE) == 0


async def test_a_success_forgets_the_failures(guesser: Guesser) -> None:
    """A user who at last knew the password begins anew; the address keeps what others did."""
    for _ in range(2):
        await guesser.fail("alice", HERE)
    assert await guesser.succeed("alice", HERE)
    assert [await guesser.fail("alice", HERE) for _ in range(3)] == [0, 0, 0]
    assert await guesser.fail("alice", HERE) > 0


async def test_an_address(guesser: Guesser) -> None:
    """An address that tries many names is blocked for all of them."""
    for number in range(6):
        assert await guesser.fail(f"user-{number}", HERE) == 0
    assert await guesser.fail("user-7", HERE) > 0
    assert await guesser.fail("alice", HERE) > 0
    assert await guesser.succeed("alice", THERE)


async def test_successes_do_not_count(guesser: Guesser) -> None:
    """Many people who log in from one address are no guessers."""
    for number in range(50):
        assert await guesser.succeed(f"user-{number}", HERE)
        assert await guesser.succeed("alice", HERE)


async def test_a_familiar_user_at_a_blocked_address(guesser: Guesser) -> None:
    """Who has logged in there before still can, but has no more attempts than others."""
    assert await guesser.succeed("alice", HERE)
    for number in range(7):
        await guesser.fail(f"user-{number}", HERE)
    assert await guesser.fail("bob", HERE) > 0
    assert await guesser.succeed("alice", HERE)
    for _ in range(3):
        assert await guesser.fail("alice", HERE) == 0
    assert await guesser.fail("alice", HERE) > 0


async def test_familiarity_ends(guesser: Guesser) -> None:
    """An address where a user has not been for long is a new one."""
    assert await guesser.succeed("alice", HERE)
    guesser.clock.now += FAMILIAR_FOR + 1
    for number in range(7):
        await guesser.fail(f"user-{number}", HERE)
    assert await guesser.fail("alice", HERE) > 0


async def test_a_user_at_many_addresses(guesser: Guesser) -> None:
    """A user who is guessed everywhere is slowed down at new addresses, and blocked at none."""
    assert await guesser.succeed("alice", HERE)
    for number in range(12):
        assert await guesser.fail("alice", f"203.0.113.{number}") == 0
    assert await guesser.is_slow("alice", THERE)
    assert not await guesser.is_slow("alice", HERE)
    assert not await guesser.is_slow("bob", THERE)
    assert await guesser.succeed("alice", THERE)
    guesser.clock.now += 2 * LIMITS.window
    assert not await guesser.is_slow("alice", "192.0.2.99")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("2001:db8::1", "2001:db8::ffff:1", True, id="one-64"),
        pytest.param("2001:db8::1", "2001:db8:0:1::1", False, id="another-64"),
        pytest.param("::ffff:192.0.2.1", "192.0.2.1", True, id="mapped"),
        pytest.param("192.0.2.1", "192.0.2.2", False, id="ipv4"),
        pytest.param("", "unknown", True, id="no-address"),
    ],
)
async def test_what_one_address_is(guesser: Guesser, one: str, other: str, *, same: bool) -> None:
    """An IPv6 client has its whole /64, and IPv4 in IPv6 is IPv4."""
    for _ in range(4):
        await guesser.fail("alice", one)
    assert (await guesser.fail("alice", other) > 0) is same


async def test_a_limit_that_is_off(clock: Clock) -> None:
    """With 0 a limit does not apply; the others do."""
    guesser = Guesser(clock, replace(LIMITS, user_address=0))
    assert [await guesser.fail("alice", HERE) for _ in range(6)] == [0] * 6
    assert await guesser.fail("bob", HERE) > 0
    guesser = Guesser(clock, replace(LIMITS, address=0))
    assert [await guesser.fail(f"user-{number}", HERE) for number in range(20)] == [0] * 20
    assert [await guesser.fail("alice", HERE) > 0 for _ in range(4)] == [False] * 3 + [True]
    guesser = Guesser(clock, replace(LIMITS, user=0))
    assert [await guesser.fail("alice", f"203.0.113.{number}") for number in range(20)] == [0] * 20
    assert not await guesser.is_slow("alice", THERE)


async def test_no_limit_at_all(clock: Clock) -> None:
    """With all limits off, nothing is ever blocked or slow."""
    guesser = Guesser(clock, GuessLimits(0, 0, 0, 100.0, b"k"))
    for _ in range(1000):
        assert await guesser.fail("alice", HERE) == 0
    assert not await guesser.is_slow("alice", HERE)


async def test_who_failed_waits_longer(guesser: Guesser) -> None:
    """In the queue for password checks, an address with failures comes after all others."""
    assert await guesser.succeed("alice", HERE)

    async def cost(name: str, address: str) -> float:
        found = await guesser.defence.look(guesser.defence.attempt(name, address, LIMITS))
        assert not isinstance(found, Blocked)
        return found.cost

    assert await cost("alice", HERE) < await cost("alice", THERE) == 1.0
    await guesser.fail("bob", THERE)
    assert await cost("alice", THERE) == 10.0
    await guesser.fail("bob", THERE)
    assert await cost("alice", THERE) == 100.0


async def test_the_log(guesser: Guesser, caplog: pytest.LogCaptureFixture) -> None:
    """One line when a block begins, however many attempts follow, and no name that is unknown."""
    caplog.set_level(logging.INFO, "sidecar.login")
    for _ in range(20):
        await guesser.fail("alice", HERE, user="alice")
        await guesser.fail("hunter2", THERE)
        guesser.clock.now += 20
    lines = [record.__dict__ for record in caplog.records]
    assert [(line["limit"], line["user"], line["client"]) for line in lines] == [
        ("user_address", "alice", HERE),
        ("user_address", "", THERE),
    ]
    assert all(line["message"] == "login limit reached" for line in lines)
    assert "hunter2" not in repr(guesser.defence.attempt("hunter2", HERE, LIMITS))


def test_digests_are_keyed(clock: Clock) -> None:
    """Digests depend on the key, are different for each purpose, and show no name."""
    defence = GuessDefence(clock=clock)
    attempt = defence.attempt("alice", HERE, LIMITS)
    digests = {attempt.pair, attempt.address, attempt.user, attempt.familiar}
    assert len(digests) == 4
    other = defence.attempt("alice", HERE, replace(LIMITS, key=b"other"))
    assert digests.isdisjoint({other.pair, other.address, other.user, other.familiar})
    assert "k'" not in repr(LIMITS)
