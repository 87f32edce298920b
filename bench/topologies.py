"""The check `topologies`: sidecars on a single Redis, on Sentinel and on a Redis Cluster.

For each: what known sessions cost Redis, and how soon a logout at one sidecar takes effect at the
other. Owns the start of the servers.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from redis import Redis

from bench import counters, polling, report, revocation, sidecar
from bench.children import START_SECONDS, StartError, free_port
from bench.outcome import Finding, Outcome, at_most, p99

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.lab import Lab

LOGOUTS = 500
REQUESTS = 20_000
SLOTS = 16_384
SERVERS = 3  # primaries of the cluster, or sentinels

SENTINEL = """
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor primary 127.0.0.1 {primary} 2
"""


@dataclass(frozen=True, slots=True)
class Topology:
    """Servers that are ready. `url` is for the sidecars, `ports` those of all primaries."""

    name: str
    url: str
    ports: Sequence[int]

    def asked(self) -> counters.Counters:
        """The command counters of all primaries together."""
        found = [counters.read(port) for port in self.ports]
        names = {name for each in found for name in each.calls}
        calls = {name: sum(each.calls.get(name, 0) for each in found) for name in names}
        return counters.Counters(calls, sum(each.keys for each in found))


def check(lab: Lab) -> Finding:
    """Run the check."""
    outcomes, rows = [], []
    for start in (start_single, start_sentinel, start_cluster):
        topology = start(lab)
        reads, delays = measure(lab, topology)
        outcomes += judge(topology.name, reads, delays)
        rows.append(
            [
                topology.name,
                f"{reads:,}",
                *(f"{value:.2f}" for value in (median(delays), p99(delays), max(delays))),
            ]
        )
    header = ["Redis", f"reads in {REQUESTS:,} requests", "p50 ms", "p99 ms", "max ms"]
    return Finding(outcomes, [conditions(), report.table(header, rows)])


def measure(lab: Lab, topology: Topology) -> tuple[int, list[float]]:
    """The reads in Redis during requests of known sessions, and each logout's delay in ms."""
    name = topology.name.lower()
    pods = [sidecar.start(lab, f"{name}-{pod}", redis_url=topology.url) for pod in "ab"]
    tokens = sidecar.logins(pods[0].port, LOGOUTS)
    with ExitStack() as stack:
        lines = [stack.enter_context(closing(polling.Line(pod.port))) for pod in pods]
        revocation.warm(tokens, lines)
        before = topology.asked()
        for number in range(REQUESTS):
            status = lines[number % 2].ask(polling.verify(tokens[number % LOGOUTS]))
            if status != polling.ALLOWED:
                raise polling.PollError(f"a request with a live token got status {status}")
        reads = (topology.asked() - before).reads
        revoked = [polling.revoke(token, lines[0], lines[1:]) for token in tokens]
    return reads, [delay * 1e3 for one in revoked for delay in one.delays]


def judge(name: str, reads: int, delays: Sequence[float]) -> list[Outcome]:
    """Compare the figures with the bars."""
    title = f"{name}: logout to 401 elsewhere, p99"
    return [
        Outcome(f"{name}: reads in {REQUESTS:,} requests", f"{reads:,}", "0", reads == 0),
        at_most(title, p99(list(delays)), revocation.LIMIT_MS, "ms"),
    ]


def conditions() -> str:
    """A description of what was measured."""
    return (
        f"Two sidecars on each kind of Redis: {REQUESTS:,} requests (`/auth/verify`) with"
        f" {LOGOUTS:,} sessions that both have cached, then their logouts at the first. Measured is"
        " the time from the response to the logout until the first 401 from the second. The cluster"
        f" has {SERVERS} primaries. Nothing is pinned."
    )


def start_single(lab: Lab) -> Topology:
    """Start one server."""
    lab.start_redis()
    return Topology("Single", f"redis://127.0.0.1:{lab.redis_port}/0", [lab.redis_port])


def start_sentinel(lab: Lab) -> Topology:
    """Start sentinels that watch the single server."""
    ports = [free_port() for _ in range(SERVERS)]
    for port in ports:
        file = lab.directory / f"sentinel-{port}.conf"
        file.write_text(SENTINEL.format(port=port, folder=lab.directory, primary=lab.redis_port))
        child = lab.children.spawn(f"sentinel-{port}", ["redis-server", str(file), "--sentinel"])
        child.wait_listening(port)
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return Topology("Sentinel", f"redis+sentinel://{hosts}/primary/0", [lab.redis_port])


def start_cluster(lab: Lab) -> Topology:
    """Start a cluster of primaries, each with a third of the slots."""
    ports, buses = ([free_port() for _ in range(SERVERS)] for _ in range(2))
    for number, (port, bus) in enumerate(zip(ports, buses, strict=True)):
        folder = lab.directory / f"node-{port}"
        folder.mkdir()
        argv = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        argv += ["--dir", str(folder), "--cluster-enabled", "yes"]
        argv += ["--cluster-port", str(bus)]
        lab.children.spawn(f"node-{port}", argv).wait_listening(port)
        first, last = number * SLOTS // SERVERS, (number + 1) * SLOTS // SERVERS - 1
        ask(port, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        ask(port, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
    for port, bus in zip(ports, buses, strict=True):
        ask(ports[0], "CLUSTER", "MEET", "127.0.0.1", str(port), str(bus))
    wait(lambda: all("cluster_state:ok" in str(ask(port, "CLUSTER", "INFO")) for port in ports))
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return Topology("Cluster", f"redis+cluster://{hosts}", ports)


def ask(port: int, *words: str) -> object:
    """A server's answer to a command."""
    with Redis(port=port) as client:
        answer: object = client.execute_command(*words)
        return answer


def wait(condition: Callable[[], bool]) -> None:
    """Return once the condition holds. Raises StartError if it does not in time."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise StartError("the Redis Cluster does not become ready")
        time.sleep(0.05)
