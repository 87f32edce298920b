"""Medians, paired ratios and bars."""

from __future__ import annotations

import pytest

from bench.bars import BARS, Bar, Quantity
from bench.load import Load
from bench.suite import Round
from bench.summary import (
    LEAST_ADDED,
    Verdict,
    beyond,
    cpu_per_request,
    ratio,
    summarise,
    verdicts,
)
from bench.usage import Usage


def round_of(microseconds: int, requests: int = 1000, errors: int = 0, p99_us: int = 2000) -> Round:
    """A round in which each request cost `microseconds`, a quarter of it in the kernel."""
    load = Load(requests, 1_000_000, 0, 500, p99_us, 0, 0, 0, 0, 0, p999_us=9000, client_us=400_000)
    total = microseconds * requests * 1000
    return Round(load, Usage(total, 30, 10), redis_ns=total // 10, errors=errors)


def test_figures_are_medians_over_rounds() -> None:
    """Figures are medians over the rounds, so one slow round changes only the maximum."""
    figures = summarise([round_of(20), round_of(22, errors=2), round_of(90)])
    assert (figures.cpu, figures.best, figures.worst) == (22, 20, 90)
    assert (figures.user, figures.system) == (16.5, 5.5)
    assert (figures.redis, figures.per_second) == (2.2, 1000)
    assert (figures.p50, figures.p99, figures.p999) == (0.5, 2.0, 9.0)
    assert (figures.busy, figures.client) == (0.022, 0.4)
    assert (figures.requests, figures.errors) == (3000, 2)


def test_round_without_an_answer_costs_infinitely_much() -> None:
    """A round without responses has infinite cost."""
    assert cpu_per_request(round_of(20, requests=0)) == float("inf")


def test_ratio_is_paired_by_round() -> None:
    """A ratio does not change if the whole machine is slow in some rounds."""
    assert ratio([10, 20, 40], [20, 40, 80]) == 0.5


def test_ratio_across_scenarios() -> None:
    """A bar may compare two scenarios of one proxy; the verdict includes the best rounds."""
    table = {
        "small": {"sidecar": summarise([round_of(20), round_of(40)])},
        "verify": {"sidecar": summarise([round_of(10), round_of(8)])},
    }
    bar = Bar("x", ("sidecar", "verify"), ("sidecar", "small"), 0.6)
    [verdict] = verdicts(table, [bar])
    assert (verdict.measured, verdict.best, verdict.at_most) == (0.35, 0.4, 0.6)
    assert verdict.busy == pytest.approx((0.009, 0.03))


def test_bar_without_both_sides_gives_no_verdict() -> None:
    """A bar has no verdict unless both sides were measured."""
    assert verdicts({"small": {"sidecar": summarise([round_of(20)])}}, BARS) == []


@pytest.mark.parametrize(
    ("measured", "held"),
    [pytest.param(24, True, id="at-the-bar"), pytest.param(25, False, id="above")],
)
def test_verdict(measured: int, held: bool) -> None:  # noqa: FBT001
    """A bar is met up to and including its limit."""
    bar = Bar("x", ("sidecar", "small"), ("haproxy", "small"), 1.2)
    sides = {"sidecar": summarise([round_of(measured)]), "haproxy": summarise([round_of(20)])}
    (verdict,) = verdicts({"small": sides}, [bar])
    assert verdict == Verdict(
        "x", Quantity.CPU, measured / 20, measured / 20, 1.2, None, busy=(measured / 1000, 0.02)
    )
    assert verdict.held is held


@pytest.mark.parametrize("wrong", ["sidecar", "haproxy"])
def test_no_bar_is_held_with_wrong_answers(wrong: str) -> None:
    """An error on either side misses the bar, whatever the ratio is."""
    bar = Bar("x", ("sidecar", "small"), ("haproxy", "small"), 1.2)
    sides = {
        name: summarise([round_of(20, errors=3 if name == wrong else 0)])
        for name in ("sidecar", "haproxy")
    }
    (verdict,) = verdicts({"small": sides}, [bar])
    assert (verdict.measured, verdict.errors, verdict.held) == (1.0, 3, False)


def test_added_latency_is_what_exceeds_the_latency_without_a_proxy() -> None:
    """What a proxy adds is compared round by round, and is never nothing."""
    direct = summarise([round_of(9, p99_us=1000), round_of(9, p99_us=3000)])
    ours = summarise([round_of(20, p99_us=1600), round_of(20, p99_us=3300)])
    theirs = summarise([round_of(20, p99_us=1200), round_of(20, p99_us=2900)])
    assert beyond(ours, direct).added == pytest.approx([0.6, 0.3])
    assert beyond(theirs, direct).added == pytest.approx([0.2, LEAST_ADDED])
    bar = Bar("x", ("a", "s"), ("b", "s"), 1.5, quantity=Quantity.ADDED)
    (verdict,) = verdicts({"s": {"a": beyond(ours, direct), "b": beyond(ours, direct)}}, [bar])
    assert verdict.measured == 1.0
    assert verdicts({"s": {"a": ours, "b": theirs}}, [bar]) == []
