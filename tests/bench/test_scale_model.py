"""The model of many pods: the fits find the coefficients, and forecasts follow from them."""

from __future__ import annotations

import msgspec
import pytest

from bench.__main__ import build_parser
from bench.machine import Machine
from bench.scale import page
from bench.scale.command import PAGE, chosen
from bench.scale.forecast_page import AT_MOST, AT_REST, SIZES, rounded
from bench.scale.model import (
    RESTED,
    Load,
    fit,
    fit_model,
    forecast,
    most_sessions,
)
from bench.scale.points import (
    Delivery,
    Failover,
    Lookup,
    Overflow,
    Points,
    Rest,
    Run,
    Stored,
    Storm,
    Table,
    Write,
)
from bench.scale.points_page import expected_reads
from bench.scale.storms import per_second
from bench.scale.subject import FULL, QUICK
from bench.scale.tally import DEADLINE, Tally, joined, percentile

PODS = (10, 100, 1_000)
PUSH, LOGIN, REFRESH, LOGOUT, EXPIRY = 5.0, 100.0, 80.0, 120.0, 2.0
REST, BASE, COMMAND, KEY, SEEN = 40.0, 500.0, 9.0, 0.5, 0.7
MACHINE = Machine(cpu="a CPU", cpus=2, memory_gib=4.0, kernel="6", versions={"Redis": "7.0"})


def exact_points() -> Points:
    """Points that follow exactly from the coefficients above."""
    return Points(
        unit=8.0,
        rests=[
            Rest(pods, 2 * pods + 4, (BASE + REST * pods) / 1e6, 1_000_000 + 90_000 * pods)
            for pods in (0, *PODS)
        ],
        writes=[
            *(Write("login", pods, 0, LOGIN) for pods in (0, *PODS)),
            *(
                Write(kind, 1_000, pods, cost + PUSH * pods)
                for kind, cost in (("refresh", REFRESH), ("logout", LOGOUT), ("expiry", EXPIRY))
                for pods in (0, *PODS)
            ),
        ],
        lookups=[
            *(Lookup(batch, seen=False, cpu=COMMAND + KEY * batch) for batch in (1, 16, 256)),
            Lookup(256, seen=True, cpu=COMMAND + (KEY + SEEN) * 256),
        ],
        deliveries=[Delivery(pods, 10, 0.1, 0.2, 0.3, 0.25) for pods in PODS],
        tables=[Table(5_000, pods, 5_000 * (130 + 20 * pods)) for pods in (1, *PODS)],
        stored=[Stored(number, 2_600 * number) for number in (100, 1_000)],
        overflows=[
            Overflow(
                limit=50,
                sessions=100,
                pods=1_000,
                tracked=50,
                requests=800.0,
                reads=600.0,
                invalidations=1_200.0,
                cpu=0.04,
            )
        ],
        storms=[
            Storm(
                pods=pods,
                reads=50,
                ready=0.1,
                warm=0.2,
                cpu=200 * pods / 1e6,
                peak=1e5,
                late=0.25,
                silent=3,
            )
            for pods in PODS
        ],
        failovers=[
            Failover(
                pods=1_000,
                sessions=50,
                rate=5_000.0,
                before=0.0,
                after=[4_700.0, 4_300.0],
                tracking=0.4,
                local=7,
                untracked=11,
                peak=9_000.0,
                busiest=0.5,
            )
        ],
    )


def run_of(points: Points) -> Run:
    """A run with these points."""
    return Run(
        date="2026-01-02",
        command="python -m bench scale",
        machine=MACHINE,
        others=0.01,
        stolen=0.0,
        points=points,
    )


def test_fit_finds_the_coefficients() -> None:
    """Points on a line give its coefficients, and no offsets."""
    found = fit([(1, 0), (1, 10), (1, 1_000)], [5, 25, 2_005])
    assert found.coefficients == pytest.approx((5, 2))
    assert found.offsets == pytest.approx((0, 0, 0), abs=1e-9)


def test_fit_counts_small_points_as_much_as_large_ones() -> None:
    """An offset is relative to its point, so a large point does not decide alone."""
    found = fit([(1,), (1,)], [10.0, 20.0])
    assert found.coefficients[0] == pytest.approx(12.0)
    assert found.offsets == pytest.approx((0.2, -0.4))
    assert found.worst == pytest.approx(0.4)


def test_fit_tolerates_noise_around_zero() -> None:
    """Below a hundredth of the largest point, offsets are relative to that."""
    found = fit([(1, 0), (1, 1), (1, 1_000)], [0.0, -0.5, 1_000])
    assert found.coefficients[1] == pytest.approx(1.0, rel=0.01)
    assert found.worst < 0.2


def test_fit_needs_different_points() -> None:
    """Two coefficients cannot be found at one place."""
    with pytest.raises(ValueError, match="do not determine"):
        fit([(1, 2), (1, 2)], [3.0, 3.0])


def test_model_has_the_coefficients_of_its_points() -> None:
    """Each fit has the numbers from which its points were made."""
    model = fit_model(exact_points())
    assert model.rest.coefficients == pytest.approx((BASE, REST))
    assert model.connections.coefficients[1] == pytest.approx(90_000)
    assert model.login.coefficients == pytest.approx((LOGIN, 0), abs=1e-6)
    assert model.refresh.coefficients == pytest.approx((REFRESH, PUSH))
    assert model.logout.coefficients == pytest.approx((LOGOUT, PUSH))
    assert model.expiry.coefficients == pytest.approx((EXPIRY, PUSH))
    assert model.lookup.coefficients == pytest.approx((COMMAND, KEY))
    assert model.seen == pytest.approx(SEEN)
    assert model.table.coefficients == pytest.approx((130, 20))
    assert model.stored.coefficients == pytest.approx((2_600,))
    assert model.start.coefficients == pytest.approx((200,))


def test_forecast_adds_up() -> None:
    """CPU and memory are the sums of what each cause takes."""
    load = Load(1_000, 1_000_000, active=0.09, requests=1.0, logouts=0.5)
    found = forecast(fit_model(exact_points()), load)
    logins = 1_000_000 / (7 * 86400)
    issued = 90_000 / 900  # per second, each read by one pod
    assert (load.readers, load.issued) == pytest.approx((1.0, issued))
    assert found.pings == pytest.approx((BASE + REST * 1_000) / 1e6)
    assert found.writes == pytest.approx(
        (logins * (LOGIN + 0.5 * LOGOUT) + (issued - logins) * REFRESH + issued * EXPIRY) / 1e6
    )
    assert found.pushes == pytest.approx(issued * PUSH / 1e6)
    assert found.lookups == pytest.approx(issued * (COMMAND + KEY) / 1e6)
    assert found.seen == pytest.approx(90_000 / 300 * SEEN / 1e6)
    assert found.memory == pytest.approx(2.6e9 + 9e7 + 90_000 * 150)
    assert found.cpu == pytest.approx(0.0405 + found.writes + 1.45e-3 + found.seen)
    assert found.primaries == 1


def test_most_sessions_fill_what_pings_leave() -> None:
    """With the most sessions, a Redis is as busy as it may be; where pings fill it, none fit."""
    model = fit_model(exact_points())
    most = most_sessions(model, 1_000)
    assert forecast(model, Load(1_000, int(most))).cpu == pytest.approx(RESTED, rel=1e-3)
    assert forecast(model, Load(1_000, int(2.5 * most))).primaries == 3
    assert most_sessions(model, 100_000) == 0.0
    assert forecast(model, Load(100_000, 1)).primaries == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(12_345, 13_000, id="up"),
        pytest.param(25_000, 25_000, id="even"),
        pytest.param(7, 7, id="small"),
    ],
)
def test_limits_are_round(value: float, expected: int) -> None:
    """A limit to set has two significant digits, and is never lower than what is needed."""
    assert rounded(value) == expected


def test_expected_reads_sum_up_to_all_caches() -> None:
    """After a failover each pod reads each of its sessions once; first as fast as requests come."""
    (one,) = exact_points().failovers
    said = expected_reads(msgspec.structs.replace(one, after=[0.0] * 200))
    assert sum(said) == pytest.approx(50_000, rel=1e-6)
    assert one.rate * 0.9 < said[0] < one.rate


def test_reads_are_counted_by_the_second_after_a_moment() -> None:
    """Slots of a tenth of a second are summed into seconds; what was before is not in them."""
    slots = {99: 1, 100: 2, 109: 3, 110: 4, 125: 5, 130: 6}
    assert per_second(slots, 10.0, 3) == [5.0, 4.0, 5.0]


def test_tallies_of_processes_are_joined() -> None:
    """Counts and slots are added, moments are merged, and the slowest counts."""
    first = Tally(reads=2, ready=[3.0], slots={1: 2}, slowest=0.1)
    second = Tally(reads=3, hits=1, ready=[1.0], slots={1: 1, 2: 2}, slowest=0.2)
    assert joined([first, second]) == Tally(
        reads=5, hits=1, ready=[1.0, 3.0], slots={1: 3, 2: 2}, slowest=0.2
    )


def test_slow_look_ups_are_counted() -> None:
    """A look-up that took longer than a sidecar waits counts for each of its sessions."""
    tally = Tally()
    tally.count_reads(3, began=-DEADLINE)
    assert (tally.reads, tally.late) == (3, 3)
    assert tally.slowest > DEADLINE


def test_percentiles_are_values() -> None:
    """A percentile is one of the values; there is none of nothing."""
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert percentile([], 0.5) == 0.0


def test_sections_show_points_model_and_forecast() -> None:
    """Each section has the figures that it is made of, also after a run was stored as JSON."""
    run = msgspec.json.decode(msgspec.json.encode(run_of(exact_points())), type=Run)
    found = page.sections(run)
    assert list(found) == [page.MEASURED, page.MODEL, page.FORECAST]
    assert "| 1,000 |                    100 |                   5,080 |" in found[page.MEASURED]
    assert "7 requests found no Redis" in found[page.MEASURED]
    assert "75.0%" in found[page.MEASURED]
    assert "5.00 |  0.62 |" in found[page.MODEL]
    assert "logout: 0: +0%, 10: +0%, 100: +0%, 1,000: +0%" in found[page.MODEL].replace(
        "-0%", "+0%"
    )
    assert "keeps Redis busy for 5.00 ms with 1,000 pods" in found[page.FORECAST]
    assert found[page.FORECAST].count("| 50,000,000 |") == 2
    assert Load(10_000, 50_000_000) in SIZES


def test_the_page_has_a_place_for_each_section() -> None:
    """The document contains each section once, so that a new run replaces it in its place."""
    text = PAGE.read_text()
    for name in page.sections(run_of(exact_points())):
        assert text.count(f"<!-- begin {name}, generated -->") == 1, name
        assert text.count(f"<!-- end {name} -->") == 1, name


@pytest.mark.parametrize("name", ["alerts.yaml", "grafana-dashboard.json"])
def test_operators_are_told_the_connections_of_a_pod(name: str) -> None:
    """The alert and the dashboard have the numbers by which limits are set."""
    assert AT_REST == 2
    said = f"A pod has two connections at rest and up to {AT_MOST} under load."
    assert said in (PAGE.parents[1] / "config" / name).read_text()


def test_options_change_the_plan() -> None:
    """The most pods and the number of sessions can be chosen; smaller steps are kept."""
    parse = build_parser().parse_args
    assert chosen(parse(["scale"])) == FULL
    assert chosen(parse(["scale", "--quick"])) == QUICK
    plan = chosen(parse(["scale", "--pods", "200", "--sessions", "50000"]))
    assert (plan.pods, plan.sessions, plan.rest) == ((10, 30, 100, 200), 50_000, FULL.rest)
