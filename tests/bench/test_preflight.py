"""A peer that does another job than the sidecar cannot take part, and wins nothing."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import jwt
import pytest

from bench import bursts, preflight, suite
from bench.children import Children, StartError
from bench.lab import Lab
from bench.load import Load
from bench.proxy import Proxy, Running
from bench.scenarios import MIXED, SMALL_BODY, Credential, Need, Scenario, Setup, denial
from bench.tokens import AUDIENCE, Algorithm
from tests.bench.recorder import Recorder, recording
from tests.peers.scripted_upstream import reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_TOKEN = denial("no-token", "401", Credential.NONE)


GOOD = reply(SMALL_BODY)
DENIED = reply(b"", "401 Unauthorized")


def proxy_that(abilities: frozenset[Need]) -> Proxy:
    """An entry for a peer that the test starts itself."""

    def start(lab: Lab, proxy: Proxy, setup: Setup) -> Running:
        raise StartError(f"{proxy} {setup} {lab}")

    return Proxy("peer", "a peer", start, abilities, ())


GUARD = proxy_that(frozenset({Need.FORWARD, Need.DENY}))
PLAIN = proxy_that(frozenset({Need.FORWARD}))


@pytest.fixture(name="lab")
def a_lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab with two users."""
    with Children(tmp_path) as children:
        yield Lab(children, users=2)


def running_at(lab: Lab, port: int) -> Running:
    """A peer on this port; its process is another one, which does nothing."""
    child = lab.children.spawn("idle", [sys.executable, "-c", "input()"])
    running = Running((child,), port, lab.tokens.of_users(Algorithm.HS256))
    suite.find_processes(running)
    return running


def guard(lab: Lab, request: bytes, **flaws: bool) -> bytes:
    """What a proxy answers that checks HS256 tokens, with one of the flaws or none."""
    shown = request.partition(b"Authorization: Bearer ")[2].partition(b"\r\n")[0].decode()
    try:
        claims = jwt.decode(
            shown,
            lab.secret,
            ["HS256"],
            {"verify_signature": "unsigned" not in flaws, "verify_exp": "old" not in flaws},
            audience=AUDIENCE,
        )
    except jwt.InvalidTokenError:
        return GOOD if "open" in flaws and not shown else DENIED
    if request.startswith(b"GET /whoami "):
        user = "user-0000" if "same" in flaws else claims["sub"]
        return reply(b"eve" if "spoofed" in flaws else user.encode())
    if request.startswith(b"GET /whence "):
        return reply(b"203.0.113.9" if "silent" in flaws else b"203.0.113.9, 127.0.0.1")
    return GOOD


def test_a_good_peer_takes_part(lab: Lab) -> None:
    """A peer that does the job passes, and the size of its responses is known."""
    with recording(Recorder(lambda request: guard(lab, request))) as server:
        sizes = preflight.check(lab, GUARD, running_at(lab, server.port), [MIXED, NO_TOKEN])
    assert sizes == {"mixed": len(GOOD), "no-token": len(DENIED)}


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        pytest.param("open", "answers no-token with 200", id="lets-everyone-in"),
        pytest.param("unsigned", "answers forged with 200", id="checks-no-signature"),
        pytest.param("old", "answers expired with 200", id="checks-no-time"),
        pytest.param("spoofed", "passes on b'eve' as the user of", id="passes-on-what-it-gets"),
        pytest.param(
            "silent", "passes on b'203.0.113.9' as X-Forwarded-For", id="hides-its-client"
        ),
        pytest.param("same", "passes on b'user-0000' as the user", id="mixes-up-users"),
    ],
)
def test_a_peer_with_a_flaw(lab: Lab, flaw: str, message: str) -> None:
    """A peer that checks less than the sidecar does not start, although it forwards."""
    with (
        recording(Recorder(lambda request: guard(lab, request, **{flaw: True}))) as server,
        pytest.raises(StartError, match=message),
    ):
        preflight.check(lab, GUARD, running_at(lab, server.port), [MIXED])


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(DENIED, id="denies-all"),
        pytest.param(reply(b""), id="empty"),
        pytest.param(reply(b"x" * len(SMALL_BODY)), id="another-body"),
        pytest.param(reply(SMALL_BODY, "302 Found"), id="redirects"),
        pytest.param(b"nonsense\r\n\r\n", id="no-http"),
    ],
)
def test_a_wrong_response(lab: Lab, answer: bytes) -> None:
    """A peer whose response is not the upstream's does not start."""
    with recording(Recorder(answer)) as server, pytest.raises(StartError):
        preflight.check(lab, PLAIN, running_at(lab, server.port), [MIXED])


@pytest.mark.parametrize(
    ("requests", "size", "expected"),
    [
        pytest.param(1000, 100 * 1000, True, id="equal"),
        pytest.param(1000, 104 * 1000, True, id="a-longer-number"),
        pytest.param(1000, 60 * 1000, False, id="another-response"),
        pytest.param(1000, 160 * 1000, False, id="a-longer-response"),
        pytest.param(10, 10 * 100 + 8 * 90, True, id="unfinished-responses"),
        pytest.param(0, 0, False, id="nothing"),
    ],
)
def test_size_tells_responses_apart(requests: int, size: int, expected: bool) -> None:  # noqa: FBT001
    """The average response must be about as long as the right one, of 100 bytes."""
    load = Load(requests, 1, size, 1, 1, 0, 0, 0, 0, 0)
    assert preflight.as_expected(load, 100, connections=8) is expected


@pytest.mark.needs("wrk")
@pytest.mark.parametrize(
    ("later", "scenario"),
    [
        pytest.param(DENIED, MIXED, id="denies-all"),
        pytest.param(reply(b""), MIXED, id="forwards-nothing"),
        pytest.param(reply(b"busy" * 9, "503 X"), NO_TOKEN, id="fails-instead-of-denying"),
    ],
)
def test_a_peer_that_turns_wrong_under_load(lab: Lab, later: bytes, scenario: Scenario) -> None:
    """Whatever a peer answers quickly instead of doing its work, all of it counts as errors."""
    loaded = threading.Event()

    def answer(request: bytes) -> bytes:
        return later if loaded.is_set() else guard(lab, request)

    with recording(Recorder(answer)) as server:
        running = running_at(lab, server.port)
        entry = suite.Measured(GUARD, {Setup.SESSIONS: running})
        entry.sizes = preflight.check(lab, GUARD, running, [scenario])
        loaded.set()
        done = suite.burst(lab, entry, scenario, bursts.Order(1, 4), seed=1)
    assert done.errors == done.load.requests > 0
