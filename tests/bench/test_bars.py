"""The bars: which apply to a build, and that each can be measured."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING

import pytest

from bench.bars import BARS, Bar, Build, Quantity, bars_of, build_of, installed_build
from bench.proxies import PROXIES
from bench.scenarios import SCENARIOS, Kind

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("build", "title", "subject", "limits"),
    [
        pytest.param(Build.COMPILED, "mixed ÷ HAProxy", "mixed", (1.10, 0.95), id="mixed"),
        pytest.param(
            Build.INTERPRETED, "mixed ÷ HAProxy", "mixed", (1.45, 1.25), id="mixed-interpreted"
        ),
        pytest.param(
            Build.COMPILED,
            "verify, mixed ÷ HAProxy's proxied mixed",
            "verify-mixed",
            (0.8, 0.65),
            id="verify-mixed",
        ),
        pytest.param(Build.COMPILED, "small GET ÷ HAProxy", "small", (0.90, 0.80), id="same"),
        pytest.param(Build.COMPILED, "no token ÷ HAProxy", "no-token", (2.0, 1.5), id="no-token"),
        pytest.param(Build.COMPILED, "forged HS256 ÷ HAProxy", "forged", (2.5, 1.7), id="forged"),
        pytest.param(
            Build.COMPILED, "fresh HS256 ÷ HAProxy", "fresh-hs256", (2.2, 1.5), id="fresh-hs256"
        ),
        pytest.param(
            Build.INTERPRETED,
            "fresh RS256 ÷ Envoy without cache",
            "fresh-rs256",
            (1.0, 0.8),
            id="fresh-rs256",
        ),
        pytest.param(
            Build.INTERPRETED,
            "mixed ÷ Envoy jwt_authn with cache",
            "mixed",
            (0.6, 0.4),
            id="envoy",
        ),
        pytest.param(
            Build.INTERPRETED,
            "added at half load ÷ added by HAProxy",
            "half-load",
            (1.5, 1.0),
            id="latency",
        ),
        pytest.param(
            Build.INTERPRETED,
            "near cache on Redis, mixed ÷ local store",
            "mixed",
            (1.1, 1.0),
            id="near",
        ),
    ],
)
def test_the_limits_of_a_build(
    build: Build, title: str, subject: str, limits: tuple[float, float]
) -> None:
    """Each build has one bar of a title, with the limit and the goal that were set for it."""
    [bar] = [bar for bar in bars_of(build) if bar.title == title]
    assert bar.subject[1] == subject
    assert (bar.at_most, bar.goal) == limits


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: f"{bar.title}-{bar.build}")
def test_both_sides_can_be_measured(bar: Bar) -> None:
    """Both sides of a bar are proxies that take part in its scenarios."""
    for name, scenario_name in (bar.subject, bar.against):
        [proxy] = [proxy for proxy in PROXIES if proxy.name == name]
        [scenario] = [one for one in SCENARIOS if one.name == scenario_name]
        assert scenario.need in proxy.abilities
        assert scenario.setup in proxy.setups
        assert (bar.quantity is Quantity.ADDED) == (scenario.kind is Kind.RATE)


def test_a_compiled_package_is_recognised(tmp_path: Path) -> None:
    """A package is compiled if `wire` has extension modules, for whatever Python."""
    wire = tmp_path / "wire"
    assert build_of([tmp_path]) is Build.INTERPRETED
    wire.mkdir()
    (wire / "head.py").touch()
    assert build_of([tmp_path]) is Build.INTERPRETED
    (wire / f"head{EXTENSION_SUFFIXES[0]}").touch()
    assert build_of([tmp_path]) is Build.COMPILED


def test_the_installed_package_is_found() -> None:
    """The build of the package that would be measured is known, so one set of bars applies."""
    titles = [bar.title for bar in bars_of(installed_build())]
    assert len(titles) == len(set(titles))
