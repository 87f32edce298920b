"""The checks: bars that are held or missed, whatever the peers cost (`python -m bench checks`).

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
from statistics import median
from typing import TYPE_CHECKING

from redis import RedisError

from bench import (
    cold,
    compare,
    holding,
    live,
    load,
    machine,
    many,
    near,
    polling,
    report,
    restarts,
    revocation,
    sidecar,
    soak,
    transfer,
    usage,
)
from bench.children import Children, StartError
from bench.lab import Lab
from bench.outcome import Finding, Outcome, below, outcome_table, p99
from bench.scenarios import MIB, SCENARIOS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

REQUESTS = 100_000
BURST_SECONDS = 2
REST_LIMIT = 60 * MIB
GROWTH_LIMIT = 16 * MIB
FIRST_EVENT_LIMIT = 0.050
SMALL = SCENARIOS[0]
FAULTS = (
    *(holding.HoldError, load.LoadError, live.LiveError, polling.PollError),
    *(transfer.TransferError, restarts.RestartError, soak.SoakError),
    *(RedisError, StartError, OSError),
    asyncio.TimeoutError,
)


@dataclass(frozen=True, slots=True)
class Subject:
    """The sidecars under test, before nginx and before the streaming application."""

    plain: sidecar.Started
    streaming: sidecar.Started
    plain_token: str
    streaming_token: str
    sizes: Sizes


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much: bytes of a transfer, idle connections."""

    transfer: int
    connections: int


def check_rest(subject: Subject) -> list[Outcome]:
    """Resident memory of a sidecar that has logged one user in and waits."""
    size = usage.rss(usage.tree(subject.plain.child.pid))
    return [below("RSS at rest", size, REST_LIMIT)]


def check_requests(subject: Subject) -> list[Outcome]:
    """A hundred thousand requests without one error."""
    total = errors = 0
    while total < REQUESTS:
        done = load.run(
            load.Burst(
                port=subject.plain.port,
                path=SMALL.path,
                method=SMALL.method,
                headers=SMALL.header_lines(subject.plain_token),
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
    """Big bodies each way, with a length and chunked, with a pause that fills every buffer."""
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
    """Idle connections held: each has done one request, each answers another one afterwards."""
    count, pids = subject.sizes.connections, usage.tree(subject.plain.child.pid)
    before = usage.rss(pids)
    with holding.held(subject.plain.port, subject.plain_token, count) as connections:
        grown = usage.rss(pids) - before
        answered = holding.ask_all(connections, subject.plain_token)
    measured = f"{answered:,} answer again; {grown / count / 1024:.1f} KiB each"
    return [Outcome(f"{count:,} idle connections", measured, f"{count:,}", answered == count)]


def check_live(subject: Subject) -> list[Outcome]:
    """WebSocket echo and server-sent events with a real client."""
    seen = asyncio.run(live.measure(subject.streaming.port, subject.streaming_token))
    echo = f"p50 {median(seen.echoes) * 1e3:.2f} ms, p99 {p99(seen.echoes) * 1e3:.2f} ms"
    first, later = max(seen.first_events), p99(seen.event_delays)
    events = f"slowest {first * 1e3:.1f} ms; later events p99 {later * 1e3:.2f} ms"
    limit = FIRST_EVENT_LIMIT
    return [
        Outcome(f"WebSocket, {len(seen.echoes)} echoes", echo, "all equal", held=True),
        Outcome("first server-sent event", events, f"under {limit * 1e3:.0f} ms", first < limit),
    ]


CHECKS: dict[str, Callable[[Subject], list[Outcome]]] = {
    "rest": check_rest,
    "requests": check_requests,
    "stream": check_stream,
    "idle": check_idle,
    "live": check_live,
}


# Each with a Redis and sidecars of its own, and a section of its own among the results.
SHARED: dict[str, Callable[[Lab], Finding]] = {
    "near": near.check,
    "cold": cold.check,
    "many": many.check,
    "revocation": revocation.check,
    "restarts": restarts.check,
}
# Longer than all the others together: only when it is asked for, for so many seconds.
LONG: dict[str, Callable[[Lab, int], Finding]] = {"soak": soak.check}
UNPINNED = frozenset({"revocation", "restarts", "soak"})  # more busy programs than there are CPUs


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The `checks` command."""
    known = [*CHECKS, *SHARED, *LONG]
    parser = commands.add_parser(
        "checks",
        help="no errors, bounded memory, live streams, shared sessions; exit 1 when one misses",
        description="Run the sidecar alone against bars that hold whatever other proxies cost.",
    )
    parser.add_argument(
        "--only", action=compare.names(known), metavar="A,B", help=f"some of: {', '.join(known)}"
    )
    parser.add_argument(
        "--mib", type=compare.positive, default=1024, metavar="N", help="per transfer (1024)"
    )
    parser.add_argument(
        "--idle", type=compare.positive, default=10_000, metavar="N", help="connections (10000)"
    )
    parser.add_argument(
        "--seconds",
        type=compare.positive,
        default=soak.SECONDS,
        metavar="N",
        help=f"of load for soak ({soak.SECONDS}), which runs only when --only names it",
    )
    parser.add_argument(
        "--write-results", action="store_true", help="put the table into bench/RESULTS.md"
    )
    parser.set_defaults(run=run)


def chosen(arguments: argparse.Namespace) -> list[str]:
    """The checks that are to run."""
    only: list[str] | None = arguments.only
    return only or [*CHECKS, *SHARED]


def run(arguments: argparse.Namespace) -> int:
    """Run the checks and print each outcome; exit status 1 when one missed its bar."""
    compare.require_load_tools()
    names = chosen(arguments)
    alone = [name for name in names if name in CHECKS]
    outcomes = run_alone(alone, arguments) if alone else []
    for name in names:
        if name not in CHECKS:
            outcomes += run_shared(name, arguments)
    return 0 if all(outcome.held for outcome in outcomes) else 1


def run_alone(names: list[str], arguments: argparse.Namespace) -> list[Outcome]:
    """The checks of the sidecar by itself, all before the same two."""
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
    """One check of shared sessions, or the long one."""
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
        title = "Shared sessions" if name in SHARED else "A long load"
        write(arguments.results, f"check {name}", f"{title}: `{name}`", parts)
    return outcomes


def attempt(name: str, check: Callable[[], list[Outcome]]) -> list[Outcome]:
    """One check, its outcomes printed; a fault in it is a missed bar."""
    try:
        outcomes = check()
    except FAULTS as error:
        outcomes = [Outcome(name, f"failed: {error}", "no fault", held=False)]
    for outcome in outcomes:
        sys.stdout.write(f"{outcome.line()}\n")
        sys.stdout.flush()
    return outcomes


def write(results: Path, section: str, title: str, parts: list[str]) -> None:
    """Put a section into the results file, with where and how it was measured."""
    now = dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    body = f"## {title}\n\n- {now}, `{machine.command_line()}`\n"
    body += f"{report.machine_lines(machine.describe())}\n\n" + "\n\n".join(parts) + "\n"
    report.write_section(results, section, body)


def prepare(children: Children, sizes: Sizes) -> Subject:
    """Start both upstreams and a sidecar before each, and log in."""
    lab = Lab(children)
    lab.start_upstream()
    port = lab.start_streams()
    plain = sidecar.start(lab, "sidecar")
    streaming = sidecar.start(lab, "sidecar-streaming", upstream_port=port)
    tokens = sidecar.login(plain.port), sidecar.login(streaming.port)
    return Subject(plain, streaming, *tokens, sizes)
