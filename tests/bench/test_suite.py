"""The order of a run, the rate of half a load, and one short run of everything."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench import compare, suite, summary
from bench.children import Children, free_port
from bench.lab import Lab
from bench.load import Load
from bench.proxies import PROXIES
from bench.proxy import Proxy, Running
from bench.scenarios import MIXED, SCENARIOS, SMALL_BODY, Kind, Need, Scenario, Setup
from bench.suite import Measured, Plan, Round, can_take, half_load
from bench.tokens import Algorithm
from bench.usage import Usage
from tests.bench.recorder import Recorder, recording
from tests.peers.scripted_upstream import reply

if TYPE_CHECKING:
    from pathlib import Path

RATED = next(scenario for scenario in SCENARIOS if scenario.kind is Kind.RATE)
CROWD = Scenario("x", "x", Kind.MIXED, connections=2, idle=3, length=len(SMALL_BODY))
ENOUGH = ("mixed", "fresh-hs256", "half-load", "login", "refresh", "tls-connections", "crowd")


def entry_of(name: str, *speeds: int) -> Measured:
    """A proxy that managed so many requests per second in each round."""
    [proxy] = [proxy for proxy in PROXIES if proxy.name == name]
    rounds = [
        Round(Load(speed, 1_000_000, 0, 0, 0, 0, 0, 0, 0, 0), Usage(1, 0, 0), 0, 0)
        for speed in speeds
    ]
    return Measured(proxy, {}, rounds={MIXED.name: rounds} if rounds else {})


@pytest.mark.parametrize(
    ("entries", "rate"),
    [
        pytest.param({"sidecar": 20_000, "haproxy": 30_000}, 10_000, id="sidecar-is-slower"),
        pytest.param({"sidecar": 40_000, "haproxy": 30_000}, 15_000, id="haproxy-is-slower"),
        pytest.param(
            {"sidecar": 20_000, "haproxy": 30_000, "caddy": 2_000}, 10_000, id="others-do-not-count"
        ),
        pytest.param({"haproxy": 30_000, "caddy": 2_000}, 15_000, id="one-of-the-two"),
        pytest.param({"nginx": 30_000, "caddy": 2_000}, 1_000, id="neither"),
        pytest.param({}, 1, id="nothing-measured"),
    ],
)
def test_half_of_the_load(entries: dict[str, int], rate: int) -> None:
    """The rate is half of what the slower one of sidecar and HAProxy took in the last round."""
    measured = [entry_of(name, 9, speed) for name, speed in entries.items()]
    assert half_load([*measured, entry_of("direct")]) == rate


@pytest.mark.parametrize(
    ("entry", "taken"),
    [
        pytest.param(entry_of("nginx", 15_000), True, id="fast-enough"),
        pytest.param(entry_of("caddy", 14_000), False, id="too-slow"),
        pytest.param(entry_of("sidecar", 11_000), True, id="one-of-the-two"),
        pytest.param(entry_of("direct"), True, id="no-proxy"),
    ],
)
def test_who_can_take_a_rate(entry: Measured, taken: bool) -> None:  # noqa: FBT001
    """A proxy that would be near its limit does not take part; the decision is kept to."""
    assert can_take(entry, RATED, 10_000) is taken
    if MIXED.name in entry.rounds:
        entry.rounds[MIXED.name] *= 2
        if taken:
            entry.rounds[RATED.name] = entry.rounds[MIXED.name][:1]
        assert can_take(entry, RATED, 99_000 if taken else 1) is taken


def peer(name: str, port: int, tool: str = "true") -> Proxy:
    """A plain proxy that already runs on this port."""

    def start(lab: Lab, proxy: Proxy, setup: Setup) -> Running:
        child = lab.children.spawn(f"{proxy.name}-{setup}", [sys.executable, "-c", "input()"])
        return Running((child,), port, lab.tokens.of_users(Algorithm.HS256))

    return Proxy(name, name, start, frozenset({Need.FORWARD}), (tool,))


def forwarded(request: bytes) -> bytes:
    """What a plain proxy answers."""
    return reply(b"203.0.113.9, 127.0.0.1" if b" /whence " in request else SMALL_BODY)


@pytest.mark.needs("wrk")
def test_every_token_is_known_before_the_measurement(tmp_path: Path) -> None:
    """Warming up sends the token of each user, so that a slow machine measures the same as a fast.

    A proxy that answers wrongly is named and left out; one that is not installed is left out.
    """
    said: list[str] = []
    with (
        recording(Recorder(forwarded)) as good,
        recording(Recorder(reply(b"?"))) as bad,
        Children(tmp_path) as children,
    ):
        lab = Lab(children, users=50)
        proxies = [peer("bad", bad.port), peer("absent", 1, "no-such-program")]
        proxies += [peer("good", good.port)]
        plan = Plan([MIXED], rounds=1, seconds=1)
        measured, failed = suite.start_all(lab, plan, proxies, said.append)
        tokens = [token.encode() for token in lab.tokens.of_users(Algorithm.HS256)]
        sent = b"".join(good.requests)
    assert [entry.proxy.name for entry in measured] == ["good"]
    assert failed == ["bad"]
    assert [line.partition(":")[0] for line in said] == ["without bad", "without absent"]
    assert all(token in sent for token in tokens)


@pytest.mark.needs("wrk")
def test_one_failure_does_not_end_the_run(tmp_path: Path) -> None:
    """A proxy that ends in the middle has errors in its table, and the others go on."""
    said: list[str] = []
    with (
        recording(Recorder(forwarded)) as good,
        Children(tmp_path) as children,
    ):
        lab = Lab(children, users=2)
        entries = []
        for name in ("gone", "good"):
            running = peer(name, good.port).start(lab, peer(name, good.port), Setup.SESSIONS)
            suite.find_processes(running)
            entry = Measured(peer(name, good.port), {Setup.SESSIONS: running})
            entry.sizes = {CROWD.name: len(reply(SMALL_BODY))}
            entries.append(entry)
        entries[0].running[Setup.SESSIONS].port = free_port()
        suite.measure(lab, Plan([CROWD], rounds=2, seconds=1), entries, said.append)
    assert [line.partition(":")[0] for line in said if "fails" in line] == ["gone fails in x"] * 2
    gone, fine = (summary.summarise(entry.rounds[CROWD.name]) for entry in entries)
    assert (gone.errors, gone.requests, fine.errors) == (2, 0, 0)
    assert fine.requests > 0


def short(scenario: Scenario) -> Scenario:
    """A scenario with few requests."""
    return replace(scenario, count=min(scenario.count, 20), idle=min(scenario.idle, 20))


@pytest.mark.needs("wrk", "nginx", "haproxy")
def test_a_run_of_every_kind(folder: Path) -> None:
    """With real proxies, each kind of load gets right answers and ends in the tables."""
    scenarios = [short(one) for one in SCENARIOS if one.name in ENOUGH]
    proxies = [proxy for proxy in PROXIES if proxy.name in {"sidecar", "haproxy", "direct"}]
    said: list[str] = []
    with Children(folder) as children:
        lab = Lab(children, users=3)
        lab.start_upstream()
        plan = Plan(scenarios, rounds=1, seconds=1)
        measured, failed = suite.start_all(lab, plan, proxies, said.append)
        disturbance = suite.measure(lab, plan, measured, said.append)
    assert failed == []
    results = compare.assemble(plan, measured, disturbance, pinned=False)
    assert list(results.figures) == [scenario.name for scenario in scenarios]
    assert {
        (name, proxy): row.errors
        for name, figures in results.figures.items()
        for proxy, row in figures.items()
        if row.errors
    } == {}
    assert list(results.figures["half-load"]) == ["sidecar", "haproxy", "direct"]
    assert list(results.figures["refresh"]) == ["sidecar"]
    assert results.figures["fresh-hs256"]["haproxy"].requests == 20
    assert results.figures["half-load"]["sidecar"].added[0] >= summary.LEAST_ADDED
    titles = {verdict.title for verdict in results.verdicts}
    assert titles >= {"mixed ÷ HAProxy", "added at half load ÷ added by HAProxy"}
