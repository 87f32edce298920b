"""A whole run of `python -m bench scale`, with a handful of pods."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from bench.children import Children
from bench.lab import Lab
from bench.scale import command, subject
from bench.scale.fleet import Fleet, FleetError
from bench.scale.population import known
from bench.scale.subject import Plan

if TYPE_CHECKING:
    from pathlib import Path

TINY = Plan(
    pods=(1, 4),
    sessions=6_000,
    settle=0.05,
    rest=0.2,
    writes=10,
    expiry=1.0,
    pushes=100,
    changes=3,
    items=2_000,
    table_sessions=40,
    storm_reads=20,
    rate=400.0,
    serve=0.6,
    after=2,
)


@pytest.mark.timeout(180)
def test_a_run_measures_everything(folder: Path) -> None:
    """Every kind of point is measured, and is what it must be whatever the machine does."""
    with Children(folder) as children:
        points = command.measure_points(Lab(children), TINY)
    assert points.unit > 0
    assert [each.pods for each in points.rests] == [0, 1, 4]
    _, one, four = (each.connections for each in points.rests)
    assert 6 <= four - one < 6 + 20  # of three pods, and those that the sidecar opens meanwhile
    kinds = {(each.kind, each.pods) for each in points.writes if each.connected == 4}
    tracked = {(kind, pods) for kind in ("refresh", "logout", "expiry") for pods in (0, 1, 4)}
    assert kinds == tracked | {("login", 0)}
    assert [(each.pods, each.p50 <= each.p99 <= each.most) for each in points.deliveries] == [
        (1, True),
        (4, True),
    ]
    assert [(each.batch, each.seen) for each in points.lookups][-1] == (256, True)
    assert all(each.cpu > 0 for each in points.lookups)
    assert points.tables[0].size > 50 * points.tables[0].keys
    assert points.stored[-1].size > 1_000 * points.stored[-1].logins
    enough, exact, half, quarter = points.overflows
    assert enough.reads == 0
    assert exact.reads < half.reads  # a key from before may have kept one of the places
    assert (half.tracked, quarter.tracked) == (20, 10)
    assert 0 < half.reads <= quarter.reads
    assert half.invalidations > 0
    assert [each.pods for each in points.storms] == [1, 4]
    (failover,) = points.failovers
    assert failover.before == 0
    assert sum(failover.after) >= TINY.most * TINY.storm_reads * 0.9


def test_an_ended_process_is_reported(folder: Path) -> None:
    """If a process of simulated pods ends, the next order fails with the end of its log."""
    with Children(folder) as children:
        lab = Lab(children)
        lab.start_redis()
        with Fleet(lab, "realm", lab.redis_port, 1) as fleet:
            fleet.start(1)
            assert fleet.read(1, [known(0)], batch=1).reads == 1
            fleet.children[0].stop()
            with pytest.raises(FleetError, match="has ended"):
                fleet.count()


def test_too_few_open_files_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run says beforehand how many open files it needs, where the limit is too low."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 3_072))
    assert subject.server_options(TINY)[:2] == ("--maxclients", "268")
    with pytest.raises(FleetError, match="3,256 open files are needed, but only 3,072"):
        subject.server_options(subject.FULL)
