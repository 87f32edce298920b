"""Profiles the sidecar in one scenario with cProfile or perf (`python -m bench profile`).

Owns the command lines of the profilers. Must not know the internals of the sidecar.
"""

from __future__ import annotations

import pstats
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench import bursts, compare, sidecar, starting
from bench.children import PATIENCE, Children, StartError
from bench.lab import Lab
from bench.scenarios import SCENARIOS, Kind

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from bench.proxy import Running
    from bench.scenarios import Scenario

TOP = 40
SETTLE_SECONDS = 1
USERS = 100  # fewer than in a comparison, because their logins are in the profile


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand `profile`."""
    parser = commands.add_parser(
        "profile",
        help="run one scenario with the sidecar under a profiler",
        description=(
            "cprofile counts Python calls and slows them down, so compare shares, not times; "
            "perf samples Python, C and kernel code without changing the program."
        ),
    )
    names = [scenario.name for scenario in SCENARIOS if scenario.kind is not Kind.RATE]
    parser.add_argument("--scenario", choices=names, default="mixed", help="default: mixed")
    parser.add_argument(
        "--seconds", type=compare.positive, default=3, metavar="N", help="seconds of load (3)"
    )
    parser.add_argument("--tool", choices=("cprofile", "perf"), default="cprofile")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the profiler's data to FILE"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Profile one scenario, print the top entries, and return the exit status."""
    compare.require_load_tools()
    scenario = next(one for one in SCENARIOS if one.name == arguments.scenario)
    profile = with_perf if arguments.tool == "perf" else with_cprofile
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        kept = arguments.output or Path(directory) / "profile"
        profile(Path(directory), kept.absolute(), scenario, arguments.seconds)
    return 0


def with_cprofile(directory: Path, kept: Path, scenario: Scenario, seconds: int) -> None:
    """Profile the whole life of the sidecar with cProfile, sorted by own time."""
    with Children(directory) as children:
        lab = Lab(children, users=USERS)
        lab.start_upstream()
        module = ("-m", "cProfile", "-o", str(kept), "-m", "sidecar")
        running = begin(lab, scenario, module)
        drive(lab, running, scenario, seconds)
        running.children[0].stop()
        if not kept.exists():
            raise StartError(f"cProfile left no result:\n{running.children[0].tail()}")
    pstats.Stats(str(kept)).sort_stats("tottime").print_stats(TOP)


def with_perf(directory: Path, kept: Path, scenario: Scenario, seconds: int) -> None:
    """Sample the sidecar with perf during the load, and report by symbol."""
    if shutil.which("perf") is None:
        raise StartError("perf not found; on Debian: apt-get install linux-perf")
    with Children(directory) as children:
        lab = Lab(children, users=USERS)
        lab.start_upstream()
        running = begin(lab, scenario, sidecar.PYTHON_MODULE)
        drive(lab, running, scenario, SETTLE_SECONDS)
        record = ["perf", "record", "--quiet", "--freq", "997", "-o", str(kept)]
        record += ["--pid", str(running.children[0].pid), "--", "sleep", str(seconds)]
        recording = children.spawn("perf", record)
        drive(lab, running, scenario, seconds)
        if recording.process.wait(PATIENCE):
            raise StartError(f"perf failed:\n{recording.tail()}")
    done = subprocess.run(
        ["perf", "report", "--stdio", "--sort", "dso,symbol", "-i", str(kept)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.strip() and line[0] != "#"]
    sys.stdout.write("\n".join(lines[:TOP]) + "\n")


def begin(lab: Lab, scenario: Scenario, module: Sequence[str]) -> Running:
    """Start a sidecar for a scenario, and log its users in."""
    setup = scenario.setup
    started = sidecar.start(
        lab,
        "sidecar",
        module=module,
        users=starting.users(lab),
        special=starting.special(lab, setup),
    )
    return starting.with_tokens(lab, setup, (started.child,), started.port)


def drive(lab: Lab, running: Running, scenario: Scenario, seconds: int) -> None:
    """Put load on the sidecar with one scenario."""
    order = bursts.Order(seconds, scenario.connections)
    ready = bursts.prepare(lab, running, scenario, order, seed=secrets.randbits(31))
    with ready.company():
        done = ready.fire()
    wrong = done.errors(denied=scenario.denied)
    sys.stdout.write(f"{scenario.title}: {done.requests:,} requests, {wrong} errors\n")
