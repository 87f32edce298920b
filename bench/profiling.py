"""Profiles the sidecar in one scenario with cProfile or perf (`python -m bench profile`).

Owns the command lines of the profilers. Must not know the internals of the sidecar.
"""

from __future__ import annotations

import pstats
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench import compare, load, sidecar
from bench.children import Children, StartError
from bench.lab import Lab
from bench.scenarios import SCENARIOS, Need

if TYPE_CHECKING:
    import argparse

    from bench.scenarios import Scenario

TOP = 40
SETTLE_SECONDS = 1


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
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--scenario", choices=names, default="small", help="default: small")
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
        lab = Lab(children)
        lab.start_upstream()
        module = ("-m", "cProfile", "-o", str(kept), "-m", "sidecar")
        started = sidecar.start(lab, "sidecar", module=module)
        drive(started.port, scenario, seconds)
        started.child.stop()
        if not kept.exists():
            raise StartError(f"cProfile left no result:\n{started.child.tail()}")
    pstats.Stats(str(kept)).sort_stats("tottime").print_stats(TOP)


def with_perf(directory: Path, kept: Path, scenario: Scenario, seconds: int) -> None:
    """Sample the sidecar with perf during the load, and report by symbol."""
    if shutil.which("perf") is None:
        raise StartError("perf not found; on Debian: apt-get install linux-perf")
    with Children(directory) as children:
        lab = Lab(children)
        lab.start_upstream()
        started = sidecar.start(lab, "sidecar")
        drive(started.port, scenario, SETTLE_SECONDS)
        record = ["perf", "record", "--quiet", "--freq", "997", "-o", str(kept)]
        record += ["--pid", str(started.child.pid), "--", "sleep", str(seconds)]
        recording = children.spawn("perf", record)
        drive(started.port, scenario, seconds)
        if recording.process.wait(timeout=30):
            raise StartError(f"perf failed:\n{recording.tail()}")
    done = subprocess.run(
        ["perf", "report", "--stdio", "--sort", "dso,symbol", "-i", str(kept)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.strip() and line[0] != "#"]
    sys.stdout.write("\n".join(lines[:TOP]) + "\n")


def drive(port: int, scenario: Scenario, seconds: int) -> None:
    """Put load on the sidecar with one scenario, after a login."""
    token = sidecar.login(port)
    done = load.run(
        load.Burst(
            port=port,
            path=scenario.path,
            method=scenario.method,
            headers=scenario.header_lines(token),
            body_size=scenario.body_size,
            connections=scenario.connections,
            seconds=seconds,
        )
    )
    wrong = done.errors(denied=scenario.need is Need.DENY)
    sys.stdout.write(f"{scenario.title}: {done.requests:,} requests, {wrong} errors\n")
