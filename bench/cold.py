"""The check `cold`: the cost of a look-up in Redis for sessions that are not in the near cache.

Each token is used once while its session is not cached, and again while it is. The difference is
the cost of the look-up. All signatures were verified before, so they count on neither side.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from bench import load, report, seeding, sidecar, usage
from bench.outcome import Finding, Outcome, at_most, control
from bench.passes import Meter, Pass

if TYPE_CHECKING:
    from pathlib import Path

    from bench.lab import Lab
    from sidecar.api.grants import TokenPair

TOKENS = 10_000
BLOCK = 2_500
TURNS = 3
CONNECTIONS = 64
LIMIT = 25.0
WARM_LIMIT = 33.0  # µs of a request without a look-up: the control, 29 to 33 on a quiet machine
LOOKED_UP, KNOWN = 0.99, 0.01  # keys read per request: minimum if cold, maximum if warm


def check(lab: Lab) -> Finding:
    """Run the check."""
    lab.start_redis()
    pairs, mac = seeding.mint(lab, TOKENS), seeding.mac_of(lab)
    written = (each for pair in pairs for each in seeding.commands(pair.grant, mac))
    seeding.insert(lab.redis_port, written)
    file = seeding.write_tokens(lab.directory / "tokens", (pair.access_token for pair in pairs))
    started = sidecar.start(lab, "sidecar", redis=True)
    meter = Meter(lab, usage.tree(started.child.pid), started.port, CONNECTIONS, asks=True)
    meter.settle()
    firsts, colds, warms = [], [], []
    for turn in range(TURNS):
        for begin in range(0, TOKENS, BLOCK):
            first = meter.run(load.Rotation(file, begin, BLOCK))
            meter.run(load.Rotation(file, begin, BLOCK))  # now all tokens are cached
            cold, warm = forgotten(lab, meter, pairs[begin : begin + BLOCK], file, begin)
            colds.append(cold)
            warms.append(warm)
            if turn == 0:
                firsts.append(first)
    return Finding(judge(colds, warms), [conditions(), table(firsts, colds, warms)])


def forgotten(
    lab: Lab, meter: Meter, pairs: list[TokenPair], file: Path, begin: int
) -> tuple[Pass, Pass]:
    """Rewrite these sessions, which evicts them from the near cache; run a cold and a warm pass."""
    mac = seeding.mac_of(lab)
    again = (seeding.token_command(pair.grant.session, mac) for pair in pairs)
    seeding.insert(lab.redis_port, again)
    meter.settle()
    rotation = load.Rotation(file, begin, len(pairs))
    return meter.run(rotation), meter.run(rotation)


def judge(colds: list[Pass], warms: list[Pass]) -> list[Outcome]:
    """Compare the figures with the bars.

    A block counts only if the cold pass looked up all its sessions and the warm pass none.
    """
    pairs = list(zip(colds, warms, strict=True))
    costs = [
        cold.cpu - warm.cpu for cold, warm in pairs if cold.keys >= LOOKED_UP and warm.keys <= KNOWN
    ]
    cold_keys, warm_keys = median(one.keys for one in colds), median(one.keys for one in warms)
    errors = sum(one.errors for one in (*colds, *warms))
    enough = len(costs) > len(pairs) / 2
    known = control("a request without it", median(one.cpu for one in warms), WARM_LIMIT, "µs")
    return [
        at_most("CPU of a session look-up", median(costs), LIMIT, "µs", known)
        if enough
        else Outcome("CPU of a session look-up", "not known", f"at most {LIMIT:g} µs", held=False),
        Outcome(
            "blocks in which cold passes read all sessions and warm passes none",
            f"{len(costs)} of {len(pairs)} (keys per request: {cold_keys:.2f}, {warm_keys:.2f})",
            "more than half",
            enough,
        ),
        Outcome("errors", f"{errors}", "0", errors == 0),
    ]


def conditions() -> str:
    """A description of the rows of the table."""
    return (
        f"{TOKENS:,} tokens in blocks of {BLOCK:,}, {CONNECTIONS} connections, small GET, each"
        f" token once per pass; medians over {TURNS} turns. First use: the signature is verified,"
        " the session is read from Redis, and its last-seen time is written. Cold: the signature is"
        " cached, the session is not. Warm: both are cached."
    )


def table(firsts: list[Pass], colds: list[Pass], warms: list[Pass]) -> str:
    """A table with one row per kind of pass."""
    rows = [row("first use", firsts), row("cold", colds), row("warm", warms)]
    header = ["pass", "CPU µs", "min-max", "Redis µs", "keys per request", "keys per command"]
    return report.table(header, rows)


def row(name: str, passes: list[Pass]) -> list[str]:
    """The row of one kind of pass."""
    costs = [one.cpu for one in passes]
    keys = sum(one.asked.keys for one in passes if one.asked is not None)
    reads = sum(one.asked.reads for one in passes if one.asked is not None)
    return [
        name,
        report.significant(median(costs)),
        f"{report.significant(min(costs))}-{report.significant(max(costs))}",
        report.significant(median(one.redis for one in passes)),
        f"{median(one.keys for one in passes):.2f}",
        f"{keys / reads:.1f}" if reads else "",
    ]
