"""The measured proxies and scenarios: their order, and that each proxy does its job."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from bench import preflight, suite
from bench.children import Children
from bench.holding import raise_file_limit
from bench.lab import Lab
from bench.proxies import PROXIES
from bench.scenarios import MIXED, SCENARIOS, Credential, Kind
from tests.conftest import PATH

if TYPE_CHECKING:
    from pathlib import Path

    from bench.proxy import Proxy
    from bench.scenarios import Scenario

# Peers that `make test` does not install: they are tested where they are.
OPTIONAL = {"apache", "oauth2-proxy"}
TESTED = [
    proxy
    for proxy in PROXIES
    if proxy.name not in OPTIONAL or all(shutil.which(tool, path=PATH) for tool in proxy.tools)
]


def test_honest_scenarios_come_first() -> None:
    """The tables begin with mixed traffic; what is replayed is at the end."""
    replayed = [scenario.kind is Kind.REPLAY for scenario in SCENARIOS]
    assert SCENARIOS[0] is MIXED
    assert replayed == sorted(replayed)


def test_names_are_unique() -> None:
    """Proxies and scenarios are told apart by their names and titles."""
    for entries in (PROXIES, SCENARIOS):
        for names in ({entry.name for entry in entries}, {entry.title for entry in entries}):
            assert len(names) == len(entries)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenarios_agree_with_themselves(scenario: Scenario) -> None:
    """A scenario has a count if its requests cannot be repeated; bad tokens are denied."""
    bad = {Credential.NONE, Credential.FORGED, Credential.EXPIRED}
    assert bool(scenario.count) == (scenario.kind in {Kind.ONCE, Kind.HANDSHAKES})
    assert scenario.denied == (scenario.credential in bad)


@pytest.mark.parametrize(
    "proxy",
    [
        pytest.param(
            proxy, id=proxy.name, marks=pytest.mark.needs("nginx", *proxy.tools, *proxy.files)
        )
        for proxy in TESTED
    ],
)
def test_each_proxy_does_its_job(proxy: Proxy, folder: Path) -> None:
    """Each proxy answers each of its scenarios rightly, in each setup, as the real program.

    Those that check tokens also refuse bad ones, and tell the upstream whose the good ones are.
    """
    raise_file_limit(10_000)
    scenarios = [one for one in SCENARIOS if one.need in proxy.abilities]
    assert any(one.setup in proxy.setups for one in scenarios)
    with Children(folder) as children:
        lab = Lab(children, users=3)
        lab.start_upstream()
        if proxy.redis:
            lab.start_redis()
        for setup in sorted(proxy.setups):
            running = suite.start(lab, proxy, setup)
            taken = [one for one in scenarios if one.setup is setup]
            sizes = preflight.check(lab, proxy, running, taken)
            assert set(sizes) == {one.name for one in taken}
            assert len(running.tokens) == 3
