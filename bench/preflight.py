"""What a proxy must do before it is measured: the job that the figures are about.

Owns the checks of responses, one by one. Must not measure.
"""

from __future__ import annotations

import http.client
import random
from dataclasses import dataclass, replace
from socket import create_connection
from typing import TYPE_CHECKING

from bench import bursts, mixed
from bench.certificate import unchecked_tls
from bench.children import PATIENCE, StartError
from bench.scenarios import SMALL_BODY, Credential, Kind, Need, Scenario, denial

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.lab import Lab
    from bench.load import Load
    from bench.proxy import Proxy, Running

EARLIER_CLIENT = "203.0.113.9"
TOLERANCE = 0.1  # of a response's size: some headers have values of different lengths
DENIALS = (
    denial("no-token", "", Credential.NONE),
    denial("forged", "", Credential.FORGED),
    denial("expired", "", Credential.EXPIRED),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; `size` is that of its head and body in bytes."""

    status: int
    body: bytes
    size: int


def check(
    lab: Lab, proxy: Proxy, running: Running, scenarios: Iterable[Scenario]
) -> dict[str, int]:
    """Send a request of each scenario, and what must be denied. Raises StartError if one is wrong.

    A proxy that checks tokens must tell the upstream whose they are, each user from the other. All
    must tell it who they got the request from. Returns the size of the right response to each
    scenario.
    """
    sizes = {}
    for scenario in scenarios:
        answer = ask(running, request_of(lab, running, scenario))
        length = len(answer.body)
        wrong = answer.status != scenario.status or length != (scenario.length or length)
        if wrong or (scenario.length == len(SMALL_BODY) and answer.body != SMALL_BODY):
            msg = f"{proxy.name} answers {scenario.name} with {answer.status} and {length} bytes"
            raise StartError(f"{msg}: {answer.body[:120]!r}\n{running.children[0].tail()}")
        sizes[scenario.name] = answer.size
    if Need.FORWARD in proxy.abilities:
        check_forwarding(proxy, running)
    if proxy.checks_tokens:
        check_denials(lab, proxy, running)
        check_identity(lab, proxy, running)
    return sizes


def as_expected(done: Load, size: int, connections: int) -> bool:
    """Whether the responses of a burst have the size that the right one has, on average.

    wrk tells apart only two kinds of status, and a fast 503 must not pass for a 401. When its time
    is over, each connection may have received a part of one response more.
    """
    least, most = (1 - TOLERANCE) * size * done.requests, (1 + TOLERANCE) * size * done.requests
    return 0 < least <= done.bytes <= most + size * connections


def check_forwarding(proxy: Proxy, running: Running) -> None:
    """Raise StartError unless the last address in X-Forwarded-For is one that the proxy added.

    In place of the client's loopback address, Envoy adds the machine's.
    """
    lines = [f"Authorization: Bearer {running.token}", f"X-Forwarded-For: {EARLIER_CLIENT}"]
    answer = ask(running, get("/whence", lines))
    last = answer.body.rpartition(b",")[2].strip()
    if answer.status != 200 or last in {b"", EARLIER_CLIENT.encode()}:
        msg = f"{proxy.name} passes on {answer.body[:80]!r} as X-Forwarded-For"
        raise StartError(f"{msg}, with status {answer.status}")


def check_denials(lab: Lab, proxy: Proxy, running: Running) -> None:
    """Raise StartError unless requests without a good token are refused with 401."""
    for scenario in DENIALS:
        status = ask(running, request_of(lab, running, scenario)).status
        if status != scenario.status:
            raise StartError(f"{proxy.name} answers {scenario.name} with {status}, not 401")


def check_identity(lab: Lab, proxy: Proxy, running: Running) -> None:
    """Raise StartError unless the upstream learns the user of each of two tokens."""
    for number in (0, -1):
        lines = [f"Authorization: Bearer {running.tokens[number]}", "X-Auth-User: eve"]
        answer = ask(running, get(proxy.whoami, lines))
        expected = lab.tokens.users[number]
        if answer.status != 200 or answer.body.split() != [expected.encode()]:
            msg = f"{proxy.name} passes on {answer.body[:80]!r} as the user of {expected}'s token"
            raise StartError(f"{msg}, with status {answer.status}")


def request_of(lab: Lab, running: Running, scenario: Scenario) -> bytes:
    """One request of a scenario."""
    if scenario.kind is Kind.REPLAY:
        lines = bursts.replayed_lines(scenario, running.token)
        if scenario.body_size:
            lines.append(f"Content-Length: {scenario.body_size}")
        head = [f"{scenario.method} {scenario.path} HTTP/1.1", f"Host: {mixed.HOST}", *lines]
        return "\r\n".join([*head, "", ""]).encode() + b"x" * scenario.body_size
    one = replace(scenario, count=1)
    seed = random.getrandbits(31)
    lines = bursts.lines_of(lab, running, one, seed=seed) or [""]
    fill = mixed.filler(mixed.template(one), mixed.TARGETS, random.Random(seed))
    return fill(lines[0])


def get(path: str, lines: Iterable[str]) -> bytes:
    """A GET with these header lines."""
    head = [f"GET {path} HTTP/1.1", f"Host: {mixed.HOST}", *lines]
    return "\r\n".join([*head, "", ""]).encode()


def ask(running: Running, request: bytes) -> Answer:
    """Send one request. Raises StartError without a response."""
    try:
        with create_connection(("127.0.0.1", running.port), PATIENCE) as plain:
            connection = unchecked_tls().wrap_socket(plain) if running.tls else plain
            with connection:
                connection.sendall(request)
                with http.client.HTTPResponse(connection) as response:
                    response.begin()
                    body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise StartError(f"no response: {error!r}\n{running.children[0].tail()}") from error
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in response.getheaders()]
    head = "\r\n".join([*lines, "", ""])
    return Answer(response.status, body, len(head) + len(body))
