"""Counts the instructions that the sidecar executes per request (`python -m bench instructions`).

Owns the command line of Valgrind and what it writes. Must not know the internals of the sidecar.

The kernel's work is not counted, nor how long an instruction takes. In return, the figures hardly
depend on what else the machine does, so that they tell whether a change makes a request cheaper.
"""

from __future__ import annotations

import contextlib
import secrets
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import bursts, sidecar, starting
from bench.children import Children, StartError
from bench.lab import Lab
from bench.load import LoadError
from bench.scenarios import SCENARIOS, Credential, Kind, Scenario, Setup

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from bench.proxy import Running

USERS = 200
WARM_UP = 600  # requests: each user's token is seen before, and what is remembered is filled
COUNTED = 2_000
CONNECTIONS = 32
TIMEOUT_SECONDS = 60.0  # programs run some fifty times slower under Valgrind
DEFAULT = ("mixed", "verify-mixed", "no-token", "forged", "expired", "fresh-hs256", "small")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand `instructions`."""
    parser = commands.add_parser(
        "instructions",
        help="count the instructions per request, whatever else the machine does",
        description=(
            "Runs the sidecar under Valgrind. The kernel's work is not counted, so compare figures "
            "of the same scenario before and after a change."
        ),
    )
    kinds = {Kind.REPLAY, Kind.MIXED, Kind.ONCE}
    names = [one.name for one in SCENARIOS if one.kind in kinds and one.setup is not Setup.TLS]
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(names)}")
    parser.add_argument(
        "--functions", type=int, default=0, metavar="N", help="also list the N costliest functions"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="keep Valgrind's files",
    )
    parser.set_defaults(run=run, known=names)


def run(arguments: argparse.Namespace) -> int:
    """Count the instructions of some scenarios, print them, and return the exit status."""
    wanted = arguments.scenarios or list(DEFAULT)
    unknown = set(wanted).difference(arguments.known)
    if unknown:
        known = ", ".join(arguments.known)
        sys.stderr.write(f"bench: expected scenarios of {known}, got {', '.join(unknown)}\n")
        return 2
    if shutil.which("valgrind") is None:
        raise StartError("valgrind not found; on Debian: apt-get install valgrind")
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
    chosen = [one for one in SCENARIOS if one.name in wanted]
    for setup in dict.fromkeys(one.setup for one in chosen):
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            run_setup(Path(directory), setup, chosen, arguments)
    return 0


def run_setup(
    directory: Path, setup: Setup, scenarios: Sequence[Scenario], arguments: argparse.Namespace
) -> None:
    """Count the scenarios of one setup at one sidecar."""
    with Children(directory) as children:
        lab = Lab(children, users=USERS)
        lab.start_upstream()
        counter = Counters(directory)
        started = sidecar.start(
            lab,
            "sidecar",
            runner=counter.argv(),
            users=starting.users(lab),
            special=starting.special(lab, setup),
        )
        running = starting.with_tokens(lab, setup, (started.child,), started.port)
        counter.pid = started.child.pid
        for scenario in scenarios:
            if scenario.setup is setup:
                warm_up(lab, running, replace(scenario, credential=Credential.GOOD, status=200))
                send(running, requests(lab, running, scenario, WARM_UP), scenario)
                counter.dump()
                send(running, requests(lab, running, scenario, COUNTED), scenario)
                report(scenario, own_costs(counter.dump()), arguments.functions)
                if arguments.output is not None:
                    (arguments.output / f"{scenario.name}.callgrind").write_text(counter.dumped)


def warm_up(lab: Lab, running: Running, scenario: Scenario) -> None:
    """Let the sidecar see each user's token, as a comparison does before it measures."""
    if scenario.kind is Kind.MIXED:
        send(running, requests(lab, running, scenario, WARM_UP), scenario)


def requests(lab: Lab, running: Running, scenario: Scenario, number: int) -> list[bytes]:
    """This many requests of a scenario, with their bodies."""
    if scenario.kind is Kind.REPLAY:
        lines = [f"{scenario.method} {scenario.path} HTTP/1.1", f"Host: 127.0.0.1:{running.port}"]
        lines += bursts.replayed_lines(scenario, running.token)
        if scenario.body_size:
            lines.append(f"Content-Length: {scenario.body_size}")
        head = "\r\n".join([*lines, "", ""]).encode()
        return [head + b"x" * scenario.body_size] * number
    counted = replace(scenario, count=number if scenario.kind is Kind.ONCE else 0)
    order = bursts.Order(0, CONNECTIONS)
    ready = bursts.prepare(lab, running, counted, order, seed=secrets.randbits(31))
    if ready.mix is None:
        raise StartError(f"{scenario.name}: there are no requests to send")
    return ready.mix.requests(number)


class Counters:
    """The sidecar's counts of instructions, which Valgrind writes into a file on demand."""

    def __init__(self, directory: Path) -> None:
        self.pid = 0
        self.dumped = ""
        self._file = directory / "counts"

    def argv(self) -> list[str]:
        """The command that the sidecar is started with."""
        options = [f"--callgrind-out-file={self._file}", "--compress-strings=no"]
        return ["valgrind", "--tool=callgrind", *options, "--compress-pos=no"]

    def dump(self) -> str:
        """Callgrind's output for the time since the last call. Raises StartError without any."""
        for file in self._file.parent.glob("counts*"):
            file.unlink()
        subprocess.run(
            ["callgrind_control", "--dump", str(self.pid)], capture_output=True, check=True
        )
        found = next(self._file.parent.glob("counts*"), None)
        if found is None:
            raise StartError("Valgrind wrote no counts")
        self.dumped = found.read_text(errors="replace")
        return self.dumped


def own_costs(text: str) -> Counter[str]:
    """Own instructions by function in a file in Callgrind's format."""
    found: Counter[str] = Counter()
    name, called = "", False
    for line in text.splitlines():
        if line.startswith("fn="):
            name = line[3:]
        elif line.startswith("calls="):
            called = True  # the next line has the cost of the called function
        elif line[:1].isdigit() or line[:1] in {"+", "-", "*"}:
            if not called:
                found[name] += int(line.split()[1])
            called = False
    return found


def report(scenario: Scenario, costs: Counter[str], functions: int) -> None:
    """Print the instructions per request, and the costliest functions."""
    total = sum(costs.values())
    sys.stdout.write(f"{scenario.name:16} {total / COUNTED:10,.0f} instructions per request\n")
    for name, cost in costs.most_common(functions):
        sys.stdout.write(f"{cost / COUNTED:14,.0f}  {name}\n")
    sys.stdout.flush()


@dataclass(slots=True)
class Connection:
    """A kept connection with at most one request on its way."""

    socket: socket.socket
    received: bytearray


def send(running: Running, wanted: Sequence[bytes], scenario: Scenario) -> None:
    """Send the requests on kept connections, and check each status. Raises LoadError."""
    waiting = list(reversed(wanted))
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(min(CONNECTIONS, len(wanted))):
            opened = socket.create_connection(("127.0.0.1", running.port), timeout=TIMEOUT_SECONDS)
            stack.enter_context(opened)
            opened.sendall(waiting.pop())
            selector.register(opened, selectors.EVENT_READ, Connection(opened, bytearray()))
        while selector.get_map():
            ready = selector.select(TIMEOUT_SECONDS)
            if not ready:
                raise LoadError(f"no response within {TIMEOUT_SECONDS:g} s")
            for key, _ in ready:
                connection: Connection = key.data
                if not answered(connection, scenario):
                    continue
                if waiting:
                    connection.socket.sendall(waiting.pop())
                else:
                    selector.unregister(connection.socket)


def answered(connection: Connection, scenario: Scenario) -> bool:
    """Whether a response is complete now. Raises LoadError if it is not the right one."""
    data = connection.socket.recv(1 << 20)
    connection.received += data
    head, end, body = bytes(connection.received).partition(b"\r\n\r\n")
    if not data or (end and not head.startswith(b"HTTP/1.1 %d " % scenario.status)):
        raise LoadError(f"expected a response with status {scenario.status}, got {head[:200]!r}")
    if not end:
        return False
    lengths = [
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    if len(body) < (lengths[0] if lengths else 0):
        return False
    connection.received.clear()
    return True
