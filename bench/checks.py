"""The checks: bars that are held or missed, whatever the peers cost (`python -m bench checks`).

Owns the list of checks and their bars. Must not know how a transfer or a connection is made.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

from bench import compare, holding, live, load, machine, report, sidecar, transfer, usage
from bench.children import Children, free_port
from bench.lab import Lab
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """One bar: what was measured, what it may be, whether it held."""

    name: str
    measured: str
    bar: str
    held: bool


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


def below(name: str, size: int, limit: int) -> Outcome:
    """An outcome in MiB."""
    return Outcome(name, f"{size / MIB:.1f} MiB", f"under {limit // MIB} MiB", size < limit)


def p99(values: list[float]) -> float:
    """The 99th percentile."""
    return quantiles(values, n=100, method="inclusive")[98]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The `checks` command."""
    parser = commands.add_parser(
        "checks",
        help="no errors, bounded memory, many connections, live streams; exit 1 when one misses",
        description="Run the sidecar alone against bars that hold whatever other proxies cost.",
    )
    parser.add_argument(
        "--only", action=compare.names(CHECKS), metavar="A,B", help=f"some of: {', '.join(CHECKS)}"
    )
    parser.add_argument(
        "--mib", type=compare.positive, default=1024, metavar="N", help="per transfer (1024)"
    )
    parser.add_argument(
        "--idle", type=compare.positive, default=10_000, metavar="N", help="connections (10000)"
    )
    parser.add_argument(
        "--write-results", action="store_true", help="put the table into bench/RESULTS.md"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the checks and print each outcome; exit status 1 when one missed its bar."""
    compare.require_load_tools()
    holding.raise_file_limit(arguments.idle)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        Children(Path(directory)) as children,
    ):
        subject = prepare(children, Sizes(arguments.mib * MIB, arguments.idle))
        outcomes = [
            outcome for name in arguments.only or CHECKS for outcome in attempt(name, subject)
        ]
    if arguments.write_results:
        body = f"## Checks\n\n- `{machine.command_line()}`\n"
        body += f"{report.machine_lines(machine.describe())}\n\n{outcome_table(outcomes)}\n"
        report.write_section(arguments.results, "checks", body)
    return 0 if all(outcome.held for outcome in outcomes) else 1


def attempt(name: str, subject: Subject) -> list[Outcome]:
    """One check, its outcomes printed; a fault in it is a missed bar."""
    try:
        outcomes = CHECKS[name](subject)
    except (
        *(holding.HoldError, load.LoadError, live.LiveError, transfer.TransferError),
        *(OSError, asyncio.TimeoutError),
    ) as error:
        outcomes = [Outcome(name, f"failed: {error}", "no fault", held=False)]
    for outcome in outcomes:
        word = "held  " if outcome.held else "MISSED"
        sys.stdout.write(f"{word} {outcome.name}: {outcome.measured} (bar: {outcome.bar})\n")
        sys.stdout.flush()
    return outcomes


def outcome_table(outcomes: list[Outcome]) -> str:
    """For the results file."""
    rows = [[o.name, o.measured, o.bar, "held" if o.held else "MISSED"] for o in outcomes]
    return report.table(["check", "measured", "bar", ""], rows)


def prepare(children: Children, sizes: Sizes) -> Subject:
    """Start both upstreams and a sidecar before each, and log in."""
    lab = Lab(children)
    lab.start_upstream()
    port = free_port()
    argv = [sys.executable, "-m", "bench.stream_upstream", str(port)]
    children.spawn("stream-upstream", argv).wait_listening(port)
    plain = sidecar.start(lab, "sidecar")
    streaming = sidecar.start(lab, "sidecar-streaming", upstream_port=port)
    tokens = sidecar.login(plain.port), sidecar.login(streaming.port)
    return Subject(plain, streaming, *tokens, sizes)
