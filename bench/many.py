"""The check `many`: a hundred thousand cached sessions, out of a million in Redis.

Measures the cost of a request with any of these sessions, compared with one of ten, and the memory
per session. Repeated with local sessions, because varied requests cost any proxy more.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import TYPE_CHECKING

from bench import load, report, seeding, sidecar, usage, witness
from bench.outcome import Finding, Outcome, at_most, disturbed
from bench.passes import Meter, Pass
from bench.scenarios import MIB

if TYPE_CHECKING:
    from pathlib import Path

    from bench.lab import Lab

STORED, KNOWN, FEW = 1_000_000, 100_000, 10
OWN = 30_000  # local sessions: fewer, because each needs a login
ROUNDS = 18
TURNS = 9  # rounds until the same tokens are used again
REQUESTS = 10_000  # per burst; passes over all tokens use different ones in every round
FILLING = 64  # connections
USES = 4  # of each token: one use is remembered for a while only, and a second one may be too late
LATE = 0.1  # seconds by which a program may wake up late; a ping to Redis may take 0.75
CLIENTS = 2
SOME = 4_000  # tokens: also too many for the CPU's caches
RATIO_LIMIT = 1.1
FLUSHES = "sidecar_near_cache_flushes_total"
NEAR_LIMIT = 1_000  # bytes: near cache entry (700), identity header lines


@dataclass(slots=True)
class Subject:
    """A sidecar that has cached all tokens of `file`, and its rounds."""

    meter: Meter
    file: Path
    known: int
    grown: int
    many: list[Pass] = field(default_factory=list)
    some: list[Pass] = field(default_factory=list)
    few: list[Pass] = field(default_factory=list)

    def run(self, number: int) -> None:
        """Run one round: the next part of all tokens, some tokens repeatedly, and the first few."""
        first = number % TURNS * self.known // TURNS
        self.many.append(self.meter.run(load.Rotation(self.file, first, REQUESTS)))
        some = load.Rotation(some_of(self.file), 0, REQUESTS)
        self.meter.run(some)  # from here on, these tokens are cached
        self.some.append(self.meter.run(some))
        self.few.append(self.meter.run(load.Rotation(few_of(self.file), 0, REQUESTS)))


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes gained by `KNOWN` shared sessions, and by their verified tokens alone."""

    shared: int
    tokens: int
    first_tokens: int  # gained by the first `SOME`

    @property
    def near(self) -> float:
        """Bytes per session, without its token."""
        return (self.shared - self.tokens) / KNOWN

    @property
    def token(self) -> float:
        """Bytes per verified token."""
        return self.first_tokens / SOME


def check(lab: Lab) -> Finding:
    """Run the check."""
    lab.start_redis()
    own = sidecar.start(lab, "sidecar-local")
    with ProcessPoolExecutor(CLIENTS) as pool:
        logins = pool.map(sidecar.logins, [own.port] * CLIENTS, [OWN // CLIENTS] * CLIENTS)
        file = seed(lab)
        own_tokens = [token for each in logins for token in each]
    first_tokens, tokens = token_memory(lab, file)
    started = sidecar.start(lab, "sidecar-redis", redis=True)
    with witness.watching(lab.children) as seen:
        shared = filled(lab, started, file, KNOWN, asks=True)
        local = filled(lab, own, write(lab.directory / "local-tokens", own_tokens), OWN, asks=False)
        for number in range(ROUNDS):
            for subject in (shared, local):
                subject.run(number)
    memory = Memory(shared.grown, tokens, first_tokens)
    outcomes = [*judge(shared, memory), lost(sidecar.metric(started, FLUSHES))]
    outcomes = disturbed(outcomes, seen.control(LATE))
    return Finding(outcomes, [conditions(), table(shared, local), memory_lines(memory)])


def seed(lab: Lab) -> Path:
    """Write a million sessions to Redis, and return the file of the tokens to use."""
    pairs, mac = seeding.mint(lab, KNOWN), seeding.mac_of(lab)
    written = (one for pair in pairs for one in seeding.commands(pair.grant, mac))
    seeding.insert(lab.redis_port, written)
    others = seeding.invented(STORED - KNOWN)
    seeding.insert(lab.redis_port, (seeding.token_command(grant.session, mac) for grant in others))
    return write(lab.directory / "shared-tokens", [pair.access_token for pair in pairs])


def write(file: Path, tokens: list[str]) -> Path:
    """Write all tokens to `file`, and the first `FEW` and `SOME` to files beside it."""
    seeding.write_tokens(few_of(file), tokens[:FEW])
    seeding.write_tokens(some_of(file), tokens[:SOME])
    return seeding.write_tokens(file, tokens)


def few_of(file: Path) -> Path:
    """The file with the first `FEW` tokens of `file`."""
    return file.with_suffix(".few")


def some_of(file: Path) -> Path:
    """The file with the first `SOME` tokens of `file`."""
    return file.with_suffix(".some")


def filled(lab: Lab, started: sidecar.Started, file: Path, known: int, *, asks: bool) -> Subject:
    """Use every token until it is remembered.

    `grown` is the memory that this adds after a first few tokens.
    """
    pids = usage.tree(started.child.pid)
    meter = Meter(lab, pids, started.port, FILLING, asks)
    meter.run(load.Rotation(few_of(file), 0, REQUESTS))
    before = usage.rss(pids)
    for _ in range(USES):
        meter.run(load.Rotation(file, 0, known))
    meter.settle()
    grown = usage.rss(pids) - before
    return Subject(Meter(lab, pids, started.port, asks=asks), file, known, grown)


def token_memory(lab: Lab, file: Path) -> tuple[int, int]:
    """Bytes that verified tokens take: the first `SOME`, and all.

    Measured on a sidecar that has no sessions for them, because it caches verified tokens anyway.
    """
    started = sidecar.start(lab, "sidecar-tokens")
    pids = usage.tree(started.child.pid)
    meter = Meter(lab, pids, started.port, FILLING, denied=True)
    meter.run(load.Rotation(few_of(file), 0, REQUESTS))
    before = usage.rss(pids)
    for _ in range(USES):
        meter.run(load.Rotation(file, 0, SOME))
    some = usage.rss(pids) - before
    for _ in range(USES):
        meter.run(load.Rotation(file, SOME, KNOWN - SOME))
    meter.settle()
    everything = usage.rss(pids) - before
    started.child.stop()
    return some, everything


def judge(shared: Subject, memory: Memory) -> list[Outcome]:
    """Compare the figures with the bars."""
    passes = (*shared.many, *shared.some, *shared.few)
    errors, keys = sum(one.errors for one in passes), max(one.keys for one in passes)
    return [
        at_most(f"any of {KNOWN:,} ÷ one of {FEW}", compared(shared.many, shared.few), RATIO_LIMIT),
        at_most(f"one of {SOME:,} ÷ one of {FEW}", compared(shared.some, shared.few), RATIO_LIMIT),
        Outcome(
            "memory of a known session",
            f"{memory.near:,.0f} bytes",
            f"at most {NEAR_LIMIT:,} bytes",
            memory.near <= NEAR_LIMIT,
        ),
        Outcome("keys read for each request", f"{keys:.3f}", "0", keys == 0),
        Outcome("errors", f"{errors}", "0", errors == 0),
    ]


def lost(flushes: float | None) -> Outcome:
    """How often the near cache was flushed, which nothing in this check should cause."""
    shown = "unknown" if flushes is None else f"{flushes:.0f} times"
    return Outcome("near cache lost", shown, "0 times", flushes == 0)


def compared(subject: list[Pass], against: list[Pass]) -> float:
    """The ratio of CPU per request."""
    return cost(subject) / cost(against)


def cost(passes: list[Pass]) -> float:
    """CPU per request in µs: the lower quartile of the rounds.

    Other programs on the machine and its host can only add to the cost. A burst lasts a third of a
    second, so it may be disturbed while its counterpart a second later is not.
    """
    return quantiles([one.cpu for one in passes], n=4, method="inclusive")[0]


def conditions() -> str:
    """A description of what was measured."""
    return (
        f"{STORED:,} sessions in Redis, {KNOWN:,} of them in the near cache; {OWN:,} sessions in"
        f" the local store. Small GET; lower quartiles of {ROUNDS} rounds of {REQUESTS:,} requests,"
        f" in alternation. In the passes over all tokens, each of {TURNS} consecutive rounds uses"
        " different ones: a token that was no longer cached would be verified again, and its"
        " session read from Redis."
    )


def table(shared: Subject, local: Subject) -> str:
    """A table with one row per store, and a row with the ratio of both."""
    rows = []
    for title, one in (("Redis store", shared), ("local store", local)):
        costs = [cost(passes) for passes in (one.few, one.some, one.many)]
        ratios = [compared(passes, one.few) for passes in (one.some, one.many)]
        keys = median(each.keys for each in one.many)
        rows.append(
            [
                title,
                *(report.significant(cost) for cost in costs),
                *(f"{value:.2f}" for value in ratios),
                f"{keys:.3f}",
                f"{one.grown / MIB:.1f}",
            ]
        )
    pairs = zip(
        (shared.few, shared.some, shared.many), (local.few, local.some, local.many), strict=True
    )
    rows.append(["Redis ÷ local", *(f"{compared(*pair):.2f}" for pair in pairs), *[""] * 4])
    header = ["", f"CPU µs, {FEW} tokens", f"{SOME:,} tokens", "all tokens"]
    header += [f"{SOME:,} ÷ {FEW}", f"all ÷ {FEW}", "keys per request", "RSS + MiB"]
    return report.table(header, rows)


def memory_lines(memory: Memory) -> str:
    """The memory of sessions and tokens, in sentences."""
    kept = memory.tokens / memory.token if memory.token > 0 else 0.0
    return (
        f"Memory: {KNOWN:,} shared sessions in use add {memory.shared / MIB:.1f} MiB; their"
        f" verified tokens alone (no session found) add {memory.tokens / MIB:.1f} MiB. The"
        f" difference is {memory.near:,.0f} bytes per session. The first {SOME:,} verified tokens"
        f" take {memory.token:,.0f} bytes each; at that size, all of them take as much memory as"
        f" {kept:,.0f} tokens. Memory that the logins took in the local store is not included."
    )
