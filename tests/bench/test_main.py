"""The arguments of the command line."""

from __future__ import annotations

import pytest

from bench import checks, compare
from bench.__main__ import build_parser
from bench.proxies import PROXIES
from bench.scenarios import SCENARIOS


def test_default_measures_everything() -> None:
    """By default, all proxies are measured in all scenarios; one option leaves a sidecar out."""
    arguments = build_parser().parse_args([])
    assert compare.chosen_proxies(arguments) == list(PROXIES)
    assert compare.chosen_scenarios(arguments) == list(SCENARIOS)
    names = [
        proxy.name for proxy in compare.chosen_proxies(build_parser().parse_args(["--no-redis"]))
    ]
    assert names == [proxy.name for proxy in PROXIES if proxy.name != "sidecar-redis"]


def test_named_peers_and_scenarios_are_taken() -> None:
    """Lists may contain spaces, and the suite's order is kept."""
    arguments = build_parser().parse_args(["--peers", "caddy, haproxy", "--scenarios", "1m,mixed"])
    names = [proxy.name for proxy in compare.chosen_proxies(arguments)]
    assert names == ["haproxy", "caddy"]
    assert [one.name for one in compare.chosen_scenarios(arguments)] == ["mixed", "1m"]


def test_the_load_of_which_half_is_needed_is_measured() -> None:
    """What the proxies can take is measured before the half of it, and with it, no proxy at all."""
    arguments = build_parser().parse_args(["--peers", "nginx", "--scenarios", "half-load"])
    names = [proxy.name for proxy in compare.chosen_proxies(arguments)]
    assert names == ["nginx", "direct"]
    assert [one.name for one in compare.chosen_scenarios(arguments)] == ["mixed", "half-load"]


@pytest.mark.parametrize(
    "name", ["near", "cold", "many", "revocation", "topologies", "restarts", "listings"]
)
def test_checks_of_shared_sessions_can_be_run_alone(name: str) -> None:
    """Each check of shared sessions can be selected by name."""
    assert build_parser().parse_args(["checks", "--only", name]).only == [name]


def test_the_long_check_is_run_only_when_it_is_named() -> None:
    """The check `soak`, which takes as long as all others together, runs only if it is named."""
    assert build_parser().parse_args(["checks", "--only", "soak"]).seconds == 600
    assert "soak" not in checks.chosen(build_parser().parse_args(["checks"]))
    assert checks.chosen(build_parser().parse_args(["checks", "--only", "soak"])) == ["soak"]


def test_quick_is_the_headline() -> None:
    """`--quick` selects a few scenarios, the mixed ones first, and the peers of their bars."""
    arguments = build_parser().parse_args(["--quick"])
    chosen = [scenario.name for scenario in compare.chosen_scenarios(arguments)]
    assert chosen == ["mixed", "verify-mixed", "no-token", "forged", "fresh-hs256", "small"]
    proxies = [proxy.name for proxy in compare.chosen_proxies(arguments)]
    assert proxies == ["sidecar", "haproxy", "envoy-cache"]


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(["--peers", "squid"], id="unknown-peer"),
        pytest.param(["--scenarios", ""], id="no-scenario"),
        pytest.param(["--rounds", "0"], id="no-rounds"),
        pytest.param(["checks", "--only", "luck"], id="unknown-check"),
        pytest.param(["profile", "--scenario", "x"], id="unknown-scenario"),
        pytest.param(["profile", "--scenario", "half-load"], id="no-load-to-halve"),
    ],
)
def test_wrong_arguments_exit_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid argument exits with status 2 and an error message."""
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(argv)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err
