"""The count of instructions: Callgrind's files, the requests that are counted, their responses."""

from __future__ import annotations

import argparse
import re
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench import instructions
from bench.children import StartError
from bench.instructions import COUNTED, Connection, answered, own_costs, report
from bench.load import LoadError
from bench.proxy import Running
from bench.scenarios import MIXED, SCENARIOS, Kind, Setup
from tests.bench.recorder import Recorder, recording
from tests.peers.scripted_upstream import reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What `callgrind_control --dump` writes with the options of `Counters.argv`: a line of a cost has
# the number of a source line and the instructions. The line after `calls=` has what the called
# function costs, which its own lines have, too.
DUMPED = """\
# callgrind format
version: 1
creator: callgrind-3.19.0
pid: 4711
part: 1

desc: I1 cache:
positions: line
events: Ir
summary: 1000

ob=/usr/bin/python3.11
fl=ceval.c
fn=_PyEval_EvalFrameDefault
10 200
+1 50
* 25
-3 25
cfn=PyObject_Call
calls=7 300
12 500
13 100

fl=call.c
fn=PyObject_Call
300 480
cob=/lib/libc.so.6
cfi=malloc.c
cfn=malloc
calls=1 0
301 20

ob=/lib/libc.so.6
fl=malloc.c
fn=malloc
0 20

fl=ceval.c
fn=_PyEval_EvalFrameDefault
fi=inlined.h
7 60
fe=ceval.c
9 40

totals: 1000
"""
COSTS = {"_PyEval_EvalFrameDefault": 500, "PyObject_Call": 480, "malloc": 20}


def parse(*words: str) -> argparse.Namespace:
    """The arguments of the command `bench instructions` with these words."""
    parser = argparse.ArgumentParser(prog="bench")
    instructions.add_parser(parser.add_subparsers())
    return parser.parse_args(["instructions", *words])


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    """A connection of the client, and the server's end of it."""
    client, server = socket.socketpair()
    with client, server:
        yield Connection(client, bytearray()), server


def test_own_costs() -> None:
    """A function has the cost of its own lines in all files, and not that of what it calls."""
    assert own_costs(DUMPED) == COSTS
    assert own_costs("") == {}


def test_own_costs_add_up() -> None:
    """No instruction is counted twice or left out: the sum is the total of the file."""
    assert f"totals: {own_costs(DUMPED).total()}\n" in DUMPED


def test_report(capsys: pytest.CaptureFixture[str]) -> None:
    """The report has the instructions per request, and as many functions as were asked for."""
    costs = own_costs(DUMPED)
    for name in costs:
        costs[name] *= COUNTED
    report(MIXED, costs, 2)
    total, *functions = capsys.readouterr().out.splitlines()
    assert total.split() == ["mixed", "1,000", "instructions", "per", "request"]
    assert [line.split() for line in functions] == [
        ["500", "_PyEval_EvalFrameDefault"],
        ["480", "PyObject_Call"],
    ]


def test_an_unknown_scenario_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is not known gives status 2 and the names that are, before anything starts."""
    arguments = parse("mixed", "mixd")
    assert arguments.run(arguments) == 2
    error = capsys.readouterr().err
    assert error.endswith("got mixd\n")
    assert all(name in error for name in instructions.DEFAULT)


def test_scenarios_that_cannot_be_counted_are_unknown() -> None:
    """TLS, fixed rates and handshakes are left out; what is counted by default is known."""
    known = parse().known
    kinds = {Kind.RATE, Kind.HANDSHAKES}
    left_out = {one.name for one in SCENARIOS if one.kind in kinds or one.setup is Setup.TLS}
    assert left_out
    assert left_out.isdisjoint(known)
    assert set(instructions.DEFAULT) <= set(known)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--functions", "many"], id="no-number"),
        pytest.param(["--functions"], id="no-value"),
        pytest.param(["--rounds", "3"], id="of-another-command"),
    ],
)
def test_wrong_options_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An option that is wrong ends the program with status 2 and the usage."""
    with pytest.raises(SystemExit) as stopped:
        parse(*arguments)
    assert stopped.value.code == 2
    assert "usage: bench" in capsys.readouterr().err


def test_without_valgrind(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Valgrind, the command says how to install it, and makes no folder."""
    monkeypatch.setenv("PATH", str(folder))
    wanted = tmp_path / "output"
    arguments = parse("--output", str(wanted))
    with pytest.raises(StartError, match="apt-get install valgrind"):
        arguments.run(arguments)
    assert not wanted.exists()


def test_a_response_in_pieces(pair: tuple[Connection, socket.socket]) -> None:
    """A response is complete with its last octet, wherever it is split, and not earlier."""
    connection, server = pair
    response = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nX: 1\r\n\r\nhello"
    for split in range(1, len(response)):
        server.sendall(response[:split])
        assert not answered(connection, MIXED)
        server.sendall(response[split:])
        assert answered(connection, MIXED)
        assert not connection.received


def test_a_response_octet_by_octet(pair: tuple[Connection, socket.socket]) -> None:
    """Of a response that arrives octet by octet, only the last one completes it."""
    connection, server = pair
    complete = []
    response = reply(b"hello")
    for octet in response:
        server.sendall(bytes((octet,)))
        complete.append(answered(connection, MIXED))
    assert complete == [False] * (len(response) - 1) + [True]


def test_a_response_without_a_body(pair: tuple[Connection, socket.socket]) -> None:
    """Without Content-Length, the head is the whole response."""
    connection, server = pair
    server.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert answered(connection, replace(MIXED, status=204))


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(b"HTTP/1.1 401 Unauthorized\r\n\r\n", id="another-status"),
        pytest.param(b"HTTP/1.1 2000 OK\r\n\r\n", id="longer-status"),
        pytest.param(b"", id="closed"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", id="closed-in-the-body"),
    ],
)
def test_a_wrong_response(pair: tuple[Connection, socket.socket], response: bytes) -> None:
    """Another status, and the end of the connection before that of a response, are errors."""
    connection, server = pair
    server.sendall(response)
    server.shutdown(socket.SHUT_WR)
    with pytest.raises(LoadError, match="expected a response with status 200"):
        answered(connection, MIXED) or answered(connection, MIXED)


def test_each_request_is_sent_once() -> None:
    """All requests arrive, each one once, on kept connections."""
    wanted = [f"GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for number in range(100)]
    with recording(Recorder(reply(b"hello"))) as server:
        instructions.send(Running((), server.port, ("token",)), wanted, MIXED)
        assert sorted(server.requests) == sorted(wanted)


def test_a_denied_request_stops_the_count() -> None:
    """A status that the scenario does not expect is an error, not a request that is counted."""
    with (
        recording(Recorder(reply(b"", "401 Unauthorized"))) as server,
        pytest.raises(LoadError, match=re.escape("got b'HTTP/1.1 401")),
    ):
        instructions.send(Running((), server.port, ("token",)), [b"GET / HTTP/1.1\r\n\r\n"], MIXED)
