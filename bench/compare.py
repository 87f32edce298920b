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

from bench import bars, holding, machine, report, suite, summary
from bench.children import Children, StartError
from bench.lab import MODULES, Lab
from bench.proxies import PROXIES
from bench.scenarios import MIXED, SCENARIOS, Kind, Scenario

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.proxy import Proxy

QUICK_SCENARIOS = "mixed,verify-mixed,no-token,forged,fresh-hs256,small"
QUICK_PEERS = "sidecar,haproxy,envoy-cache"
DIRECT = "direct"
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
    proxies = [proxy.name for proxy in PROXIES if proxy.name != DIRECT]
    scenarios = [scenario.name for scenario in SCENARIOS]
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
    what.add_argument(
        "--redis",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure the sidecar with Redis as well, if no peers are named",
    )
    what.add_argument(
        "--quick",
        action="store_true",
        help=f"run {QUICK_ROUNDS} rounds of {QUICK_SCENARIOS} with {QUICK_PEERS}",
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
        help="active connections in every scenario (default 32; 8 for 1m, 100 for crowd)",
    )
    how.add_argument(
        "--pin",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run proxies on one CPU, client and upstream on others (default: steadier results)",
    )
    out = parser.add_argument_group("results")
    out.add_argument(
        "--json", action="store_true", help="print one JSON document instead of tables"
    )
    out.add_argument(
        "--write-results", action="store_true", help="write the tables to bench/RESULTS.md"
    )
    out.add_argument(
        "--strict",
        action="store_true",
        help="exit with status 1 if a bar is missed or a response is wrong",
    )


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
    """The proxies to measure, in the order of the tables.

    What latency is like without a proxy is always measured with that of the proxies.
    """
    named = arguments.peers or (QUICK_PEERS.split(",") if arguments.quick else None)
    rated = any(scenario.kind is Kind.RATE for scenario in chosen_scenarios(arguments))
    return [proxy for proxy in PROXIES if is_chosen(proxy.name, named, arguments, rated=rated)]


def is_chosen(
    name: str, named: list[str] | None, arguments: argparse.Namespace, *, rated: bool
) -> bool:
    """Whether to measure a proxy; `named` are those asked for, None for all."""
    if name == DIRECT:
        return rated
    if named is None:
        return bool(arguments.redis) or name != OPTIONAL
    return name in named


def chosen_scenarios(arguments: argparse.Namespace) -> list[Scenario]:
    """The scenarios to measure, in the suite's order.

    The load of those with a fixed rate depends on what the proxies can take in `MIXED`.
    """
    named = arguments.scenarios or (QUICK_SCENARIOS.split(",") if arguments.quick else None)
    if named is None:
        return list(SCENARIOS)
    rated = any(one.kind is Kind.RATE for one in SCENARIOS if one.name in named)
    return [one for one in SCENARIOS if one.name in named or (rated and one is MIXED)]


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
    holding.raise_file_limit(max(scenario.idle for scenario in scenarios))
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        Children(Path(directory)) as children,
    ):
        lab = Lab(children, pin=arguments.pin)
        lab.start_upstream()
        if any(proxy.redis and not proxy.missing() for proxy in proxies):
            lab.start_redis()
        measured, failed = suite.start_all(lab, plan, proxies, say)
        if all(entry.proxy.name == DIRECT for entry in measured):
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
    build = bars.installed_build()
    figures = {
        scenario.name: with_added(
            {
                entry.proxy.name: summary.summarise(entry.rounds[scenario.name])
                for entry in measured
                if scenario.name in entry.rounds
            }
        )
        for scenario in plan.scenarios
    }
    return report.Results(
        date=dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=machine.command_line(),
        machine=machine.describe(),
        build=build,
        rounds=plan.rounds,
        seconds=plan.seconds,
        pinned=pinned,
        others=disturbance.others,
        stolen=disturbance.stolen,
        proxies={entry.proxy.name: entry.proxy.title for entry in measured},
        titles={scenario.name: scenario.title for scenario in plan.scenarios},
        figures={name: row for name, row in figures.items() if row},
        memory={
            entry.proxy.name: report.Memory(entry.rss_start, entry.rss_end)
            for entry in measured
            if entry.proxy.name != DIRECT
        },
        verdicts=summary.verdicts(figures, bars.bars_of(build)),
    )


def with_added(figures: dict[str, summary.Figures]) -> dict[str, summary.Figures]:
    """The figures of a scenario; if there are some without a proxy, with what each proxy adds."""
    direct = figures.get(DIRECT)
    if direct is None:
        return figures
    return {
        name: row if name == DIRECT else summary.beyond(row, direct)
        for name, row in figures.items()
    }


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
        name = f"comparison, {results.build}"  # both builds have figures, and bars of their own
        report.write_section(arguments.results, name, f"## Comparison, {results.build}\n\n{text}")
    wrong = [
        f"{proxy} in {scenario}"
        for scenario, figures in results.figures.items()
        for proxy, row in figures.items()
        if row.errors
    ]
    if wrong:
        say(f"wrong or missing responses: {', '.join(wrong)}")
    failed = bool(wrong) or any(not verdict.held for verdict in results.verdicts)
    return 1 if arguments.strict and failed else 0
