"""The command `python -m bench scale`: its arguments, the order of the measurements, the results.

Must not measure or fit anything itself.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from bench import compare, holding, machine, report, seeding, suite
from bench.children import Children
from bench.lab import Lab
from bench.scale import page, storms, tables, unit, writes
from bench.scale.clients import Users
from bench.scale.fleet import Fleet
from bench.scale.gauge import Gauge
from bench.scale.points import Points, Run
from bench.scale.population import PodCommands
from bench.scale.subject import (
    FULL,
    PER_POD,
    PROCESSES,
    QUICK,
    SPARE_FILES,
    Subject,
    server_options,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from bench.scale.subject import Plan

T = TypeVar("T")

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand `scale`."""
    parser = commands.add_parser(
        "scale",
        help="measure what many pods cost one Redis: CPU, memory, delivery, starts, failover",
        description=(
            "Measure one Redis with many simulated pods, which send what a sidecar sends, and fit "
            "a model to it. The pods have no deadlines, so use a quiet machine with two CPUs."
        ),
    )
    parser.add_argument("--quick", action="store_true", help="few pods and sessions; a minute")
    parser.add_argument(
        "--pods", type=compare.positive, metavar="N", help=f"the most pods ({FULL.most})"
    )
    parser.add_argument(
        "--sessions",
        type=compare.positive,
        metavar="N",
        help=f"sessions in Redis ({FULL.sessions})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the points to FILE")
    parser.add_argument(
        "--from-json",
        type=Path,
        metavar="FILE",
        help="measure nothing: take the points of an earlier run",
    )
    parser.add_argument(
        "--write-results", action="store_true", help="write the tables to docs/scaling.md"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure or read the points, show them with the model, and return the exit status."""
    if arguments.from_json is not None:
        found = msgspec.json.decode(arguments.from_json.read_bytes(), type=Run)
    else:
        found = measure(chosen(arguments))
    if arguments.json is not None:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    for name, body in page.sections(found).items():
        sys.stdout.write(f"\n{body}\n")
        if arguments.write_results:
            report.write_section(PAGE, name, body)
    return 0


def chosen(arguments: argparse.Namespace) -> Plan:
    """The plan of these arguments."""
    plan = QUICK if arguments.quick else FULL
    most, sessions = arguments.pods or plan.most, arguments.sessions or plan.sessions
    pods = (*(each for each in plan.pods if each < most), most)
    return dataclasses.replace(plan, pods=pods, sessions=sessions)


def measure(plan: Plan) -> Run:
    """Run all measurements of a plan. Raises FleetError, StartError or RedisError."""
    holding.raise_file_limit(plan.most * PER_POD + SPARE_FILES)
    meter = suite.DisturbanceMeter()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        Children(Path(directory)) as children,
    ):
        points = measure_points(Lab(children, pin=True), plan)
    disturbance = meter.disturbance()
    return Run(
        date=dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=machine.command_line(),
        machine=machine.describe(),
        others=disturbance.others,
        stolen=disturbance.stolen,
        points=points,
    )


def measure_points(lab: Lab, plan: Plan) -> Points:
    """Measure one thing after another on one Redis; a failover has two of its own."""
    server = lab.start_redis(*server_options(plan))
    mac, points = seeding.mac_of(lab), Points()
    commands = PodCommands(mac.realm)
    with Gauge(lab.redis_port, server.pid) as gauge:
        points.unit = step("the unit", lambda: unit.measure(lab, gauge))
        points.stored = step(
            f"{plan.sessions:,} sessions", lambda: tables.fill(gauge, lab.redis_port, plan, mac)
        )
        with Fleet(lab, mac.realm, lab.redis_port, PROCESSES) as fleet:
            measure_fleet(points, Subject(lab, plan, gauge, fleet, Users(lab)), commands)
        points.storms = step("starts", lambda: storms.measure_starts(lab, plan, mac, gauge))
    points.failovers = step("a failover", lambda: storms.measure_failovers(lab, plan, mac))
    return points


def measure_fleet(points: Points, subject: Subject, commands: PodCommands) -> None:
    """Measure what one fleet of pods costs, and add it to the points."""
    points.rests, points.writes = step("pods at rest", lambda: writes.measure_growth(subject))
    points.writes += step("writes", lambda: writes.measure_tracked(subject, commands))
    points.deliveries = step("delivery", lambda: writes.measure_deliveries(subject, commands))
    points.lookups = step("look-ups", lambda: tables.measure_lookups(subject))
    points.tables = step("the tracking table", lambda: tables.measure_tables(subject))
    points.overflows = step("a full table", lambda: tables.measure_overflows(subject))


def step(name: str, measure: Callable[[], T]) -> T:
    """Say what is measured, and measure it."""
    sys.stdout.write(f"measuring {name}\n")
    sys.stdout.flush()
    return measure()
