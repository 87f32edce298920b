"""The check `guesses`: what its load asks, and how its bars judge."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from bench import guesses
from bench.guesses import Phase, Seen, judge
from bench.scenarios import MIB


def phase(requests: float, login: float = 0.1, **statuses: int) -> Phase:
    """A phase in which all requests and all logins took the same time."""
    made = Phase([requests] * 100, [login] * 50, [login] * 50, [0.0] * 100)
    made.guesses = Counter({name.removeprefix("s"): count for name, count in statuses.items()})
    return made


def missed(seen: Seen) -> list[str]:
    """The names of the bars that were missed."""
    return [outcome.name for outcome in judge(seen, 1000) if outcome.missed]


def undecided(seen: Seen) -> list[str]:
    """The names of the bars that were neither held nor missed."""
    return [each.name for each in judge(seen, 1000) if not each.held and not each.missed]


CALM = phase(0.004)
GOOD = phase(0.004, 0.1, s401=200, s429=790, s503=10)


def test_good() -> None:
    """All guesses refused, logins fast, requests as fast as without, and no growth."""
    assert missed(Seen(CALM, GOOD, CALM, MIB, MIB)) == []


@pytest.mark.parametrize(
    ("seen", "names"),
    [
        pytest.param(
            Seen(CALM, phase(0.004, 0.1, s200=1, s429=999), CALM, 0, 0), ["guesses"], id="one-right"
        ),
        pytest.param(
            Seen(CALM, phase(0.004, 0.1, s429=999), CALM, 0, 0), ["guesses"], id="one-less"
        ),
        pytest.param(
            Seen(CALM, phase(0.004, 0.4, s429=1000), CALM, 0, 0),
            [
                "right logins of the attacked user, where it was before",
                "right logins of another user, from new addresses",
            ],
            id="slow-logins",
        ),
        pytest.param(
            Seen(CALM, phase(0.008, 0.1, s429=1000), CALM, 0, 0),
            ["requests to the application"],
            id="slow-requests",
        ),
        pytest.param(Seen(CALM, GOOD, CALM, 9 * MIB, 0), ["RSS of the sidecar"], id="memory"),
        pytest.param(Seen(CALM, GOOD, CALM, 0, 9 * MIB), ["memory of Redis"], id="redis"),
    ],
)
def test_missed(seen: Seen, names: list[str]) -> None:
    """Each bar notices what it is about."""
    assert missed(seen) == names


LOGINS = [
    "right logins of the attacked user, where it was before",
    "right logins of another user, from new addresses",
]
REQUESTS = ["requests to the application"]


def test_a_slow_machine_decides_nothing() -> None:
    """Logins that are slow without guesses, phases that differ, and a late client prove nothing."""
    slow = phase(0.004, 0.2)
    assert undecided(Seen(slow, phase(0.004, 0.4, s429=1000), slow, 0, 0)) == LOGINS
    refused = phase(0.004, 0.1, s429=1000)
    refused.failures["503"] += 1
    assert undecided(Seen(slow, refused, slow, 0, 0)) == ["requests and right logins"]
    attack = phase(0.02, 0.1, s429=1000)
    assert missed(Seen(CALM, attack, CALM, 0, 0)) == REQUESTS
    assert undecided(Seen(CALM, attack, phase(0.007), 0, 0)) == REQUESTS
    attack.late = [0.003] * 100
    assert undecided(Seen(CALM, attack, CALM, 0, 0)) == REQUESTS


def test_failures_count_in_every_phase() -> None:
    """A right login that fails is a missed bar, also without guesses."""
    after = phase(0.004)
    after.failures["503"] += 1
    assert missed(Seen(CALM, GOOD, after, 0, 0)) == ["requests and right logins"]


def test_the_guesses() -> None:
    """Every address tries every name in turn, the attacked one among them."""
    heads = [guesses._guess(turn).split(b"\r\n\r\n") for turn in range(1000)]  # noqa: SLF001
    pairs = {
        (
            head.partition(b"X-Forwarded-For: ")[2].split(b"\r\n")[0],
            msgspec.json.decode(body)["username"],
        )
        for head, body in heads
    }
    assert len(pairs) == guesses.ADDRESSES * guesses.NAMES == 1000
    assert len({address for address, name in pairs if name == guesses.VICTIM}) == 20
