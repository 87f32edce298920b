"""Load of new TLS connections: each has a handshake of its own."""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench import handshakes, load, mixed
from bench.certificate import write_certificate
from bench.scenarios import SCENARIOS, Kind
from tests.bench.recorder import Recorder, recording
from tests.peers.scripted_upstream import OK, reply

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
DENIED = reply(b"", "401 Unauthorized")


@pytest.fixture(name="tls")
def server_tls(tmp_path: Path) -> ssl.SSLContext:
    """TLS of a server that would resume sessions."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(write_certificate(tmp_path / "server.pem"))
    return context


def test_each_request_has_a_full_handshake(tls: ssl.SSLContext) -> None:
    """No session is resumed, although the server offers it."""
    with recording(Recorder(tls=tls)) as server:
        done = handshakes.run(server.port, [REQUEST] * 12, connections=3)
        assert server.resumed == [False] * 12
        assert len(server.requests) == 12
    assert (done.requests, done.errors(denied=False)) == (12, 0)
    assert done.bytes == 12 * len(OK)


@pytest.mark.parametrize(
    ("answer", "breaks", "errors"),
    [
        pytest.param(DENIED, frozenset[int](), 6, id="denied"),
        pytest.param(None, frozenset({1, 2}), 2, id="broken"),
    ],
)
def test_errors_are_counted(
    tls: ssl.SSLContext, answer: bytes | None, breaks: frozenset[int], errors: int
) -> None:
    """A refusal and a connection that ends are errors."""
    known = {"tls": tls, "breaks": breaks}
    recorder = Recorder(**known) if answer is None else Recorder(answer, **known)  # type: ignore[arg-type]
    with recording(recorder) as server:
        done = handshakes.run(server.port, [REQUEST] * 6, connections=2)
    assert done.errors(denied=False) == errors


def test_the_program_runs_by_itself(tls: ssl.SSLContext, tmp_path: Path) -> None:
    """The command line carries the whole order, and sends the number of requests of the mix."""
    known = next(one for one in SCENARIOS if one.kind is Kind.HANDSHAKES)
    scenario = replace(known, count=40)
    mix = mixed.write(tmp_path, "x", scenario, ["a.b.c", "d.e.f"], seed=5)
    with recording(Recorder(tls=tls)) as server:
        argv = handshakes.argv(server.port, 4, mix)
        done = load.run_program(argv, 30, cpu=None)
        assert len(set(server.requests)) == done.requests == scenario.count
    assert done.errors(denied=False) == 0
