"""The bars of the checks of shared sessions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bench import cold, listings, many, near, refreshes, remembered, revocation, topologies
from bench.counters import Counters
from bench.load import Load
from bench.outcome import Outcome, at_most, control, disturbed, exit_status, outcome_table
from bench.passes import Pass
from bench.polling import Revoked
from bench.scenarios import MIB
from bench.sidecar import metric_in


def passed(cpu: float, keys: int = 0, errors: int = 0) -> Pass:
    """A pass of a hundred requests."""
    return Pass(100, errors, cpu, 0.0, Counters({"mget": keys // 10}, keys))


def held(outcomes: list[Outcome]) -> list[bool]:
    """Which of the bars were met."""
    return [outcome.held for outcome in outcomes]


def missed(outcomes: list[Outcome]) -> list[bool]:
    """Which of the bars were missed on a machine that allowed them to be held."""
    return [outcome.missed for outcome in outcomes]


def test_outcome_of_a_number_is_held_up_to_its_bar() -> None:
    """A bar is met up to its limit, and the printed line agrees with the table row."""
    outcome = at_most("look-up", 25.0, 25.0, "µs")
    assert outcome.line() == "held      look-up: 25.00 µs (bar: at most 25 µs)"
    assert not at_most("look-up", 25.01, 25.0).held
    assert "| look-up | 25.00 µs | at most 25 µs | held |" in outcome_table([outcome])


def test_a_bar_that_the_machine_did_not_allow_is_undecided() -> None:
    """A control only concerns what is not held, and both the line and the table show its value."""
    slow, quick = (control("a ping", value, 1.0, "ms") for value in (2.0, 0.5))
    assert at_most("delay", 4.0, 5.0, "ms", slow).word == "held"
    assert at_most("delay", 6.0, 5.0, "ms", quick).missed
    outcome = at_most("delay", 6.0, 5.0, "ms", slow)
    assert (outcome.held, outcome.missed) == (False, False)
    assert outcome.line() == (
        "undecided delay: 6.00 ms (bar: at most 5 ms); the machine was too slow or too busy:"
        " a ping took 2.00 ms, and may take 1 ms"
    )
    assert "| undecided: a ping took 2.00 ms, and may take 1 ms |" in outcome_table([outcome])


def test_the_exit_status_tells_missed_from_undecided() -> None:
    """A missed bar counts more than an undecided one, and only held ones are success."""
    held_, missed_ = at_most("a", 1.0, 2.0), at_most("b", 3.0, 2.0)
    undecided = at_most("c", 3.0, 2.0, "ms", control("a ping", 2.0, 1.0, "ms"))
    assert exit_status([held_]) == 0
    assert exit_status([held_, undecided]) == 3
    assert exit_status([undecided, missed_]) == 1


def test_a_control_for_all_outcomes_does_not_hide_a_stricter_one() -> None:
    """An unsound control stays; in place of a sound one, that of the whole check counts."""
    slow, quick = (control("a ping", value, 1.0, "ms") for value in (2.0, 0.5))
    outcomes = [at_most("delay", 6.0, 5.0, "ms", each) for each in (slow, quick, None)]
    assert [each.missed for each in disturbed(outcomes, quick)] == [False, True, True]
    assert [each.missed for each in disturbed(outcomes, slow)] == [False, False, False]


def test_near_holds_when_no_value_is_read() -> None:
    """Any command that may read a value misses the bar; pings do not."""
    quiet = Counters({"ping": 4}, 0)
    assert near.verdict(Counters({"ping": 6}, 0), quiet).held
    assert "(2 commands more" in near.verdict(Counters({"ping": 6}, 0), quiet).measured
    assert not near.verdict(Counters({"ping": 4, "mget": 1}, 1), quiet).held
    assert not near.verdict(Counters({"ping": 4, "unheard-of": 1}, 1), quiet).held


def test_price_of_a_look_up_is_paired_by_block() -> None:
    """The cost is the median of the differences within each block, so slow blocks cancel out."""
    colds = [passed(40, keys=100), passed(80, keys=100), passed(44, keys=100)]
    warms = [passed(20), passed(60), passed(20)]
    outcomes = cold.judge(colds, warms)
    assert outcomes[0].measured == "20.00 µs"
    assert held(outcomes) == [True, True, True]


def test_price_is_undecided_if_everything_is_expensive() -> None:
    """A machine on which even known requests cost too much says nothing about look-ups."""
    (price, *_) = cold.judge([passed(60, 100)], [passed(30)])
    assert price.missed
    (price, *_) = cold.judge([passed(80, 100)], [passed(40)])
    assert (price.held, price.missed) == (False, False)


@pytest.mark.parametrize(
    ("cold_keys", "warm_keys"),
    [pytest.param(100, 100, id="nothing-is-known"), pytest.param(0, 0, id="nothing-is-asked")],
)
def test_price_is_not_known_unless_one_side_asks(cold_keys: int, warm_keys: int) -> None:
    """If both passes read keys, or neither does, the cost is unknown."""
    outcomes = cold.judge([passed(40, cold_keys)], [passed(40, warm_keys)])
    assert outcomes[0].measured == "not known"
    assert held(outcomes) == [False, False, True]


def test_disturbed_blocks_give_no_price_while_most_are_sound() -> None:
    """A block in which not all sessions were read is ignored, as long as most blocks count."""
    colds = [passed(40, 100), passed(90, 30), passed(44, 100)]
    outcomes = cold.judge(colds, [passed(20), passed(20), passed(20)])
    assert (outcomes[0].measured, held(outcomes)) == ("22.00 µs", [True, True, True])
    assert outcomes[1].measured.startswith("2 of 3 ")


def test_cold_counts_errors_of_either_side() -> None:
    """Errors in cold and in warm passes are counted."""
    outcomes = cold.judge([passed(40, 100, errors=1)], [passed(20, errors=2)])
    assert (outcomes[2].measured, outcomes[2].held) == ("3", False)


def test_memory_of_a_session_is_beside_that_of_its_token() -> None:
    """The memory of a session does not include that of its verified token."""
    memory = many.Memory(shared=150_000_000, tokens=50_000_000, first_tokens=2_000 * many.SOME)
    assert (memory.near, memory.token) == (1000, 2000)
    assert "as much memory as 25,000 tokens" in many.memory_lines(memory)


def remembering(
    *, grown: int = 0, at_first: int = 50, after: float = 30, errors: int = 0
) -> list[bool]:
    """Which bars are met if 100,000 tokens grow the process by `grown` MiB."""
    measured = remembered.Measured(
        case=remembered.CASES[0],
        at_first=at_first * MIB,
        at_last=(at_first + grown) * MIB,
        before=[passed(20)] * 5,
        once=[passed(100, errors=errors), *[passed(100)] * 4],
        after=[passed(after)] * 5,
    )
    return held(remembered.judge(measured))


def test_remembered_tokens() -> None:
    """The memory of each, that of all, forgotten tokens and errors each miss their bar."""
    assert remembering(grown=58) == [True, True, True, True]
    assert remembering(grown=59) == [False, True, True, True]
    assert remembering(grown=40, at_first=71) == [True, False, True, True]
    assert remembering(after=61) == [True, True, False, True]
    assert remembering(errors=1) == [True, True, True, False]


def test_cost_of_remembered_tokens_is_that_of_most_parts() -> None:
    """One disturbed part of five does not count, and the table shows the figures."""
    passes = [passed(30), passed(31), passed(500), passed(29), passed(32)]
    once = [passed(100)] * 5
    measured = remembered.Measured(remembered.CASES[0], 0, 100_000, passes, once, passes)
    assert (measured.ratio, measured.each) == (0.31, 1.0)
    assert "| HS256" in remembered.table([measured])


@pytest.mark.parametrize(
    ("flushes", "kept"),
    [
        pytest.param(0.0, True, id="never"),
        pytest.param(2.0, False, id="twice"),
        pytest.param(None, False, id="no-such-metric"),
    ],
)
def test_near_cache_must_not_be_lost(flushes: float | None, kept: bool) -> None:  # noqa: FBT001
    """The bar is missed if the near cache was flushed or if the number of flushes is unknown."""
    assert many.lost(flushes).held is kept


def test_metric_is_the_sample_of_just_this_name() -> None:
    """A metric is the sample with exactly this name and no labels."""
    text = '# TYPE x gauge\nx_total 2.0\nx{a="b"} 3.0\nx 4.5\n'
    assert metric_in(text, "x") == 4.5
    assert metric_in(text, "y") is None


def test_topologies_bars() -> None:
    """Each kind of Redis has its own: no value is read, and the 99th percentile is at most 5 ms."""
    assert held(topologies.judge("Cluster", 0, [1.0] * 200)) == [True, True]
    assert held(topologies.judge("Cluster", 1, [1.0] * 190 + [6.0] * 10)) == [False, False]


def test_revocation_bars() -> None:
    """Late refusals, a busy bystander and a slow login writer each miss their bar."""
    good = revocation.Stretch(
        [Revoked([0.001], 0)] * 200, [0.2] * 200, bystander=0.001, logins=1000
    )
    late = [Revoked([0.001], 0)] * 190 + [Revoked([0.006], 3)] * 10
    bad = revocation.Stretch(late, [0.2] * 200, bystander=0.01, logins=500)
    assert held(revocation.judge(good, good, 4000.0)) == [True, True, True, True]
    assert missed(revocation.judge(good, bad, 4000.0)) == [False, True, True, True]


def test_revocation_is_undecided_on_a_slow_machine() -> None:
    """Slow requests, a bystander that is busy at rest, and a writer that is slow alone."""
    late = [Revoked([0.006], 3)] * 200
    slow = revocation.Stretch(late, [3.0] * 200, bystander=0.01, logins=500)
    outcomes = revocation.judge(slow, slow, 900.0)
    assert held(outcomes) == [False, False, False, False]
    assert missed(outcomes) == [False, False, False, False]


def test_refreshes_hold_if_redis_does_not_grow() -> None:
    """The bar is missed by 10 KiB more, by what stays, and by a run without refreshes."""

    def judged(number: int, after: int, later: int) -> list[bool]:
        return held(refreshes.judge_refreshes(refreshes.Refreshed(number, 0, 2000, after, later)))

    assert judged(60, 8000, 2000) == [True, True]
    assert judged(60, 2000 + 10 * 1024, 2000) == [False, True]
    assert judged(60, 8000, 4000) == [True, False]
    assert judged(0, 2000, 2000) == [False, True]


def test_logins_left_are_exactly_the_limit() -> None:
    """More keys of any kind, fewer of them, or tokens that are still accepted miss the bar."""
    kept = {"sid": 100, "token": 100, "refresh": 100}
    assert held(refreshes.judge_logins(kept, 100)) == [True]
    assert held(refreshes.judge_logins(kept | {"token": 101}, 100)) == [False]
    assert held(refreshes.judge_logins(dict.fromkeys(kept, 99), 99)) == [False]
    assert held(refreshes.judge_logins(kept, 101)) == [False]


def listed(requests: int, failed: int = 0) -> Load:
    """The load of listings on one sidecar."""
    return Load(requests, 15_000_000, 0, 0, 0, 0, 0, 0, 0, failed)


@pytest.mark.parametrize(
    ("seen", "loads", "ends", "missed"),
    [
        pytest.param({}, (), {}, [], id="harmless"),
        pytest.param({"good": {401: 1, 200: 9}}, (), {}, [0, 1], id="denied"),
        pytest.param({"good": {503: 1, 200: 9}}, (), {}, [1], id="unavailable"),
        pytest.param({"alive": 1}, (), {}, [2], id="alive"),
        pytest.param({"ended": []}, (), {}, [2], id="nothing-ended"),
        pytest.param({}, (), {"transitions": 1}, [3], id="opened"),
        pytest.param({}, (), {"closed": 1}, [3], id="open"),
        pytest.param({}, (listed(9), listed(9, failed=9)), {}, [4], id="no-load"),
    ],
)
def test_listings_harm_nobody(
    seen: dict[str, Any], loads: tuple[Load, ...], ends: dict[str, int], missed: list[int]
) -> None:
    """Each kind of harm misses its bar."""
    defaults: dict[str, Any] = {"good": {200: 10}, "ended": ["token"], **seen}
    found = listings.judge(
        listings.Seen(**{**defaults, "good": Counter(defaults["good"])}),
        list(loads or (listed(9), listed(9))),
        listings.Ends(**{"transitions": 0, "closed": 2, **ends}),
    )
    assert [number for number, each in enumerate(held(found)) if not each] == missed
