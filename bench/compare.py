"""The comparison: its options, one run of the suite, and the output of the results.

Owns the order of a run. Must not know how a proxy is started or how a table is formatted.
"""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench import machine, report, suite, summary
from bench.children import Children, StartError
from bench.lab import MODULES, Lab
from bench.proxies import PROXIES, Proxy
from bench.scenarios import SCENARIOS, Scenario

if TYPE_CHECKING:
    from collections.abc import Iterable

QUICK_SCENARIOS = "small,1m,verify"
QUICK_ROUNDS, ROUNDS, SECONDS = 3, 7, 1
OPTIONAL = "sidecar-redis"
ECHO_MODULE = f"{MODULES}/ngx_http_echo_module.so"


def names(known: Iterable[str]) -> type[argparse.Action]:
    """An argparse action for a comma-separated list of known names."""
    allowed = list(known)

    class Names(argparse.Action):
        """Splits the value and checks each name."""

        def __call__(
            self,
            parser: argparse.ArgumentParser,
            namespace: argparse.Namespace,
            values: object,
            option_string: str | None = None,
        ) -> None:
            chosen = [name.strip() for name in str(values).split(",") if name.strip()]
            unknown = [name for name in chosen if name not in allowed]
            if unknown or not chosen:
                parser.error(f"{option_string}: {values!r}: choose from {', '.join(allowed)}")
            setattr(namespace, self.dest, chosen)

    return Names


def positive(text: str) -> int:
    """Parse a positive integer."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the comparison."""
    proxies, scenarios = [p.name for p in PROXIES], [s.name for s in SCENARIOS]
    what = parser.add_argument_group("selection")
    what.add_argument(
        "--peers",
        action=names(proxies),
        metavar="A,B",
        help=f"measure only these: {', '.join(proxies)}",
    )
    what.add_argument(
        "--scenarios",
        action=names(scenarios),
        metavar="A,B",
        help=f"run only these: {', '.join(scenarios)}",
    )
    what.add_argument("--redis", action="store_true", help="measure the sidecar with Redis as well")
    what.add_argument(
        "--quick", action="store_true", help=f"run {QUICK_ROUNDS} rounds of {QUICK_SCENARIOS}"
    )
    how = parser.add_argument_group("load")
    how.add_argument(
        "--rounds", type=positive, metavar="N", help=f"number of rounds (default {ROUNDS})"
    )
    how.add_argument(
        "--seconds",
        type=positive,
        default=SECONDS,
        metavar="N",
        help="length of each burst (default 1)",
    )
    how.add_argument(
        "--connections",
        type=positive,
        metavar="N",
        help="connections of wrk in every scenario (default 32; 8 for 1m)",
    )
    how.add_argument(
        "--pin",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run proxies on one CPU, wrk and upstream on another (default: steadier results)",
    )
    out = parser.add_argument_group("results")
    out.add_argument(
        "--json", action="store_true", help="print one JSON document instead of tables"
    )
    out.add_argument(
        "--write-results", action="store_true", help="write the tables to bench/RESULTS.md"
    )
    out.add_argument("--strict", action="store_true", help="exit with status 1 if a bar is missed")


def say(text: str) -> None:
    """Print progress to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def require_load_tools() -> None:
    """Raise StartError unless wrk and nginx with the echo module are installed."""
    missing = [tool for tool in ("wrk", "nginx") if shutil.which(tool) is None]
    missing += [] if Path(ECHO_MODULE).exists() else [ECHO_MODULE]
    if missing:
        msg = (
            f"{', '.join(missing)} not found; on Debian: "
            "apt-get install --no-install-recommends wrk nginx-light libnginx-mod-http-echo"
        )
        raise StartError(msg)


def chosen_proxies(arguments: argparse.Namespace) -> list[Proxy]:
    """The proxies to measure, in the order of the tables."""
    if arguments.peers:
        return [proxy for proxy in PROXIES if proxy.name in arguments.peers]
    return [proxy for proxy in PROXIES if arguments.redis or proxy.name != OPTIONAL]


def chosen_scenarios(arguments: argparse.Namespace) -> list[Scenario]:
    """The scenarios to measure, in the suite's order."""
    wanted = arguments.scenarios or (QUICK_SCENARIOS.split(",") if arguments.quick else None)
    return [scenario for scenario in SCENARIOS if wanted is None or scenario.name in wanted]


def run(arguments: argparse.Namespace) -> int:
    """Measure, show the results, and return the exit status."""
    require_load_tools()
    proxies, scenarios = chosen_proxies(arguments), chosen_scenarios(arguments)
    plan = suite.Plan(
        scenarios=scenarios,
        rounds=arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS),
        seconds=arguments.seconds,
        connections=arguments.connections,
    )
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        Children(Path(directory)) as children,
    ):
        lab = Lab(children, pin=arguments.pin)
        lab.start_upstream()
        if any(proxy.redis and not proxy.missing() for proxy in proxies):
            lab.start_redis()
        measured, failed = suite.start_all(lab, proxies, say)
        if not measured:
            say("nothing to measure")
            return 1
        disturbance = suite.measure(lab, plan, measured, say)
    results = assemble(plan, measured, disturbance, pinned=lab.proxy_cpu is not None)
    status = show(results, arguments)
    return 1 if failed else status


def assemble(
    plan: suite.Plan,
    measured: list[suite.Measured],
    disturbance: suite.Disturbance,
    *,
    pinned: bool,
) -> report.Results:
    """Collect everything that a report contains."""
    figures = {
        scenario.name: {
            entry.proxy.name: summary.summarise(entry.rounds[scenario.name])
            for entry in measured
            if scenario.name in entry.rounds
        }
        for scenario in plan.scenarios
    }
    return report.Results(
        date=dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=machine.command_line(),
        machine=machine.describe(),
        rounds=plan.rounds,
        seconds=plan.seconds,
        pinned=pinned,
        others=disturbance.others,
        stolen=disturbance.stolen,
        proxies={entry.proxy.name: entry.proxy.title for entry in measured},
        titles={scenario.name: scenario.title for scenario in plan.scenarios},
        figures={name: row for name, row in figures.items() if row},
        memory={
            entry.proxy.name: report.Memory(entry.rss_start, entry.rss_end) for entry in measured
        },
        verdicts=summary.verdicts(figures),
    )


def show(results: report.Results, arguments: argparse.Namespace) -> int:
    """Print the results, write them if requested, and return the exit status."""
    text = report.markdown(results)
    if arguments.json:
        sys.stdout.write(
            msgspec.json.format(msgspec.json.encode(results), indent=2).decode() + "\n"
        )
    else:
        sys.stdout.write(text)
    if arguments.write_results:
        report.write_section(arguments.results, "comparison", f"## Comparison\n\n{text}")
    failed = any(not verdict.held for verdict in results.verdicts)
    return 1 if arguments.strict and failed else 0
