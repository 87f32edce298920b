"""The checks: fixed bars that do not depend on the peers (`python -m bench checks`).

Owns the list of checks and their bars. Must not know how a transfer or a connection is made.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from redis import RedisError

from bench import (
    bursts,
    cold,
    compare,
    early,
    guesses,
    holding,
    listings,
    live,
    load,
    machine,
    many,
    near,
    polling,
    refreshes,
    remembered,
    report,
    restarts,
    revocation,
    sidecar,
    soak,
    topologies,
    transfer,
    unfinished,
    uploads,
    usage,
)
from bench.children import Children, StartError
from bench.lab import Lab
from bench.outcome import Finding, Outcome, below, exit_status, outcome_table
from bench.scenarios import MIB, SMALL

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

REQUESTS = 100_000
BURST_SECONDS = 2
REST_LIMIT = 50 * MIB
GROWTH_LIMIT = 16 * MIB
FAULTS = (
    *(holding.HoldError, load.LoadError, live.LiveError, polling.PollError),
    *(transfer.TransferError, restarts.RestartError, soak.SoakError),
    *(RedisError, StartError, OSError),
    asyncio.TimeoutError,
)


@dataclass(frozen=True, slots=True)
class Subject:
    """The sidecars under test: one in front of nginx, one in front of the streaming application."""

    plain: sidecar.Started
    streaming: sidecar.Started
    plain_token: str
    streaming_token: str
    streams_port: int  # of the streaming application itself
    sizes: Sizes
    lab: Lab


@dataclass(frozen=True, slots=True)
class Sizes:
    """The size of the load: bytes per transfer, and the number of idle connections."""

    transfer: int
    connections: int


def check_rest(subject: Subject) -> list[Outcome]:
    """Measure the resident memory of an idle sidecar after one login."""
    size = usage.rss(usage.tree(subject.plain.child.pid))
    return [below("RSS at rest", size, REST_LIMIT)]


def check_requests(subject: Subject) -> list[Outcome]:
    """Send a hundred thousand requests, all of which must succeed."""
    total = errors = 0
    while total < REQUESTS:
        done = load.run(
            load.Burst(
                port=subject.plain.port,
                path=SMALL.path,
                method=SMALL.method,
                headers=bursts.replayed_lines(SMALL, subject.plain_token),
                body_size=0,
                connections=SMALL.connections,
                seconds=BURST_SECONDS,
            )
        )
        total += done.requests
        errors += done.errors(denied=False)
        if not done.requests:
            break
    held = total >= REQUESTS and errors == 0
    return [Outcome("requests", f"{errors} errors in {total:,}", f"0 in {REQUESTS:,}", held)]


def check_stream(subject: Subject) -> list[Outcome]:
    """Transfer large bodies in both directions, with a length and chunked, with a pause each."""
    port, token, size = subject.streaming.port, subject.streaming_token, subject.sizes.transfer
    pids = usage.tree(subject.streaming.child.pid)
    transfer.upload(port, token, MIB)
    transfer.download(port, token, MIB)
    outcomes = []
    for direction in (transfer.upload, transfer.download):
        for chunked in (False, True):
            with transfer.RssSampler(pids) as sampler:
                done = direction(port, token, size, chunked=chunked)
            name = f"{direction.__name__} of {size // MIB:,} MiB{', chunked' if chunked else ''}"
            growth = f"RSS +{sampler.growth / MIB:.1f} MiB at {done.mib_per_second:,.0f} MiB/s"
            held = sampler.growth < GROWTH_LIMIT
            outcomes.append(Outcome(name, growth, f"under +{GROWTH_LIMIT // MIB} MiB", held))
    return outcomes


def check_idle(subject: Subject) -> list[Outcome]:
    """Hold idle connections, each of which sends one request before and one after."""
    count, pids = subject.sizes.connections, usage.tree(subject.plain.child.pid)
    before = usage.rss(pids)
    with holding.held(subject.plain.port, subject.plain_token, count) as connections:
        grown = usage.rss(pids) - before
        answered = holding.ask_all(connections, subject.plain_token)
    measured = f"{answered:,} answer again; {grown / count / 1024:.1f} KiB each"
    return [Outcome(f"{count:,} idle connections", measured, f"{count:,}", answered == count)]


def check_memory(subject: Subject) -> list[Outcome]:
    """Measure the memory of each connection whose request is unfinished, or that is idle."""
    return unfinished.measure(subject.lab, subject.sizes.connections // 2)


def check_live(subject: Subject) -> list[Outcome]:
    """Measure WebSocket echoes and server-sent events with a real client, and without a proxy."""
    seen, plain = (
        asyncio.run(live.measure(port, subject.streaming_token))
        for port in (subject.streaming.port, subject.streams_port)
    )
    return live.judge(seen, plain)


CHECKS: dict[str, Callable[[Subject], list[Outcome]]] = {
    "rest": check_rest,
    "requests": check_requests,
    "stream": check_stream,
    "idle": check_idle,
    "memory": check_memory,
    "live": check_live,
}


# Each check has its own sidecars, and a Redis if it needs one, and its section in the results file.
SHARED: dict[str, Callable[[Lab], Finding]] = {
    "near": near.check,
    "cold": cold.check,
    "many": many.check,
    "remembered": remembered.check,
    "revocation": revocation.check,
    "topologies": topologies.check,
    "refreshes": refreshes.check,
    "restarts": restarts.check,
    "listings": listings.check,
    "uploads": uploads.check,
    "early": early.check,
    "guesses": guesses.check,
}
# Takes longer than all the others together, so it runs only if it is named; takes the seconds.
LONG: dict[str, Callable[[Lab, int], Finding]] = {"soak": soak.check}
TITLES = {
    "soak": "A long load",
    "remembered": "Remembered tokens",
    "uploads": "Slow clients",
    "early": "Early answers",
}
# More busy programs than CPUs
UNPINNED = frozenset(
    {
        *("early", "guesses", "listings", "refreshes", "restarts", "revocation", "soak"),
        *("topologies", "uploads"),
    }
)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand `checks`."""
    known = [*CHECKS, *SHARED, *LONG]
    parser = commands.add_parser(
        "checks",
        help="check limits on errors, memory, streams and shared sessions; exit 1 if one is missed",
        description="Check the sidecar against fixed limits that do not depend on other proxies.",
    )
    parser.add_argument(
        "--only",
        action=compare.names(known),
        metavar="A,B",
        help=f"run only these: {', '.join(known)}",
    )
    parser.add_argument(
        "--mib",
        type=compare.positive,
        default=1024,
        metavar="N",
        help="size of each transfer in MiB (1024)",
    )
    parser.add_argument(
        "--idle",
        type=compare.positive,
        default=10_000,
        metavar="N",
        help="number of idle connections (10000)",
    )
    parser.add_argument(
        "--seconds",
        type=compare.positive,
        default=soak.SECONDS,
        metavar="N",
        help=f"seconds of load for soak ({soak.SECONDS}), which runs only if --only names it",
    )
    parser.add_argument(
        "--write-results", action="store_true", help="write the tables to bench/RESULTS.md"
    )
    parser.set_defaults(run=run)


def chosen(arguments: argparse.Namespace) -> list[str]:
    """The names of the checks to run."""
    only: list[str] | None = arguments.only
    return only or [*CHECKS, *SHARED]


def run(arguments: argparse.Namespace) -> int:
    """Run the checks and print each outcome; returns the exit status."""
    compare.require_load_tools()
    names = chosen(arguments)
    alone = [name for name in names if name in CHECKS]
    outcomes = run_alone(alone, arguments) if alone else []
    for name in names:
        if name not in CHECKS:
            outcomes += run_shared(name, arguments)
    return exit_status(outcomes)


def run_alone(names: list[str], arguments: argparse.Namespace) -> list[Outcome]:
    """Run the checks of single sidecars, which share the same two."""
    holding.raise_file_limit(arguments.idle)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        Children(Path(directory)) as children,
    ):
        subject = prepare(children, Sizes(arguments.mib * MIB, arguments.idle))
        outcomes = []
        for name in names:
            outcomes += attempt(name, partial(CHECKS[name], subject))
    if arguments.write_results:
        write(arguments.results, "checks", "Checks", [outcome_table(outcomes)])
    return outcomes


def run_shared(name: str, arguments: argparse.Namespace) -> list[Outcome]:
    """Run one check of shared sessions, or the long one."""
    details: list[str] = []
    begin = SHARED[name] if name in SHARED else lambda lab: LONG[name](lab, arguments.seconds)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        Children(Path(directory)) as children,
    ):
        lab = Lab(children, pin=name not in UNPINNED)
        lab.start_upstream()

        def check() -> list[Outcome]:
            found = begin(lab)
            details.extend(found.details)
            return found.outcomes

        outcomes = attempt(name, check)
    sys.stdout.write("".join(f"\n{part}\n" for part in details))
    sys.stdout.flush()
    if arguments.write_results:
        parts = [outcome_table(outcomes), *details]
        title = TITLES.get(name, "Shared sessions")
        write(arguments.results, f"check {name}", f"{title}: `{name}`", parts)
    return outcomes


def attempt(name: str, check: Callable[[], list[Outcome]]) -> list[Outcome]:
    """Run one check and print its outcomes; an exception counts as a missed bar."""
    try:
        outcomes = check()
    except FAULTS as error:
        outcomes = [Outcome(name, f"failed: {error}", "no fault", held=False)]
    for outcome in outcomes:
        sys.stdout.write(f"{outcome.line()}\n")
        sys.stdout.flush()
    return outcomes


def write(results: Path, section: str, title: str, parts: list[str]) -> None:
    """Write a section of the results file, with the time, the command and the machine."""
    now = dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    body = f"## {title}\n\n- {now}, `{machine.command_line()}`\n"
    body += f"{report.machine_lines(machine.describe())}\n\n" + "\n\n".join(parts) + "\n"
    report.write_section(results, section, body)


def prepare(children: Children, sizes: Sizes) -> Subject:
    """Start both upstreams with a sidecar in front of each, and log in."""
    lab = Lab(children)
    lab.start_upstream()
    port = lab.start_streams()
    plain = sidecar.start(lab, "sidecar")
    streaming = sidecar.start(lab, "sidecar-streaming", upstream_port=port)
    tokens = sidecar.login(plain.port), sidecar.login(streaming.port)
    return Subject(plain, streaming, *tokens, port, sizes, lab)
