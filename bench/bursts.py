"""One burst: a scenario's requests, sent to one proxy.

Owns which program makes the load, and the files that it needs. Must not know rounds or figures.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

from bench import handshakes, holding, load, mixed, open_loop, sidecar
from bench.scenarios import Credential, Kind, Scenario, Setup
from bench.tokens import Algorithm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.lab import Lab
    from bench.proxy import Running

PROGRAM_SECONDS = 600  # for a fixed number of requests, after which a burst ends by itself


@dataclass(frozen=True, slots=True)
class Order:
    """How much of a scenario is wanted: seconds, connections, and requests per second if fixed."""

    seconds: int
    connections: int
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Ready:
    """A burst that is prepared: everything that costs the proxy time outside of it has happened."""

    lab: Lab
    running: Running
    scenario: Scenario
    order: Order
    mix: mixed.Mix | None

    def fire(self) -> load.Load:
        """Send the requests. Raises LoadError."""
        scenario, order, cpu = self.scenario, self.order, self.lab.client_cpu
        port = self.running.port
        if self.mix is not None and scenario.kind is Kind.RATE:
            argv = open_loop.argv(port, order.rate, order.seconds, order.connections, self.mix)
            return load.run_program(argv, order.seconds, cpu=cpu)
        if self.mix is not None and scenario.kind is Kind.HANDSHAKES:
            argv = handshakes.argv(port, order.connections, self.mix)
            return load.run_program(argv, PROGRAM_SECONDS, cpu=cpu)
        burst = load.Burst(
            port=port,
            path=scenario.path,
            method=scenario.method,
            headers=replayed_lines(scenario, self.running.token),
            body_size=scenario.body_size,
            connections=order.connections,
            seconds=PROGRAM_SECONDS if scenario.count else order.seconds,
            mix=self.mix,
            tls=self.running.tls,
        )
        return load.run(burst, cpu=cpu)

    @contextlib.contextmanager
    def company(self) -> Iterator[None]:
        """The idle connections that are open meanwhile. Raises HoldError."""
        with holding.held(self.running.port, self.running.token, self.scenario.idle) as idle:
            yield
            holding.require_open(idle)


def prepare(lab: Lab, running: Running, scenario: Scenario, order: Order, *, seed: int) -> Ready:
    """Write the files of a burst, and log users in if it needs their refresh tokens.

    The same seed makes the same requests, apart from the tokens. Fresh tokens are made once for
    each seed, and are the same for all proxies.
    """
    if scenario.kind is Kind.REPLAY:
        return Ready(lab, running, scenario, order, None)
    lines = lines_of(lab, running, scenario, seed=seed)
    mix = mixed.write(lab.directory, scenario.name, scenario, lines, seed=seed)
    return Ready(lab, running, scenario, order, mix)


def lines_of(lab: Lab, running: Running, scenario: Scenario, *, seed: int) -> list[str]:
    """What the requests of a scenario show: tokens, or the bodies of logins and refreshes."""
    users = list(islice(cycle(lab.tokens.users), scenario.count))
    match scenario.credential:
        case Credential.NONE:
            return []
        case Credential.FORGED:
            return [token.rpartition(".")[0] for token in running.tokens]
        case Credential.EXPIRED:
            return list(lab.tokens.expired(running.algorithm))
        case Credential.FRESH:
            fresh = Algorithm.RS256 if scenario.setup is Setup.RS256 else Algorithm.HS256
            return list(fresh_tokens(lab, fresh, scenario.count, seed))
        case Credential.PASSWORD:
            return [sidecar.login_body(user).decode() for user in users]
        case Credential.REFRESH:
            answers = sidecar.log_in(running.port, users, tls=running.tls)
            return [sidecar.refresh_body(each.refresh_token).decode() for each in answers]
        case Credential.GOOD:
            return list(running.tokens)


@functools.lru_cache(maxsize=2)
def fresh_tokens(lab: Lab, algorithm: Algorithm, number: int, seed: int) -> tuple[str, ...]:
    """New tokens for each seed."""
    del seed
    return tuple(lab.tokens.fresh(algorithm, number))


def replayed_lines(scenario: Scenario, token: str) -> list[str]:
    """The headers of a request that is replayed."""
    return [f"Authorization: Bearer {token}", *scenario.headers]
