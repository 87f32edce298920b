"""The controls of the checks: what shows that the machine allowed a load or a bar."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from bench import vitals, witness
from bench.children import Children, StartError
from bench.holding import HoldError, require_open
from bench.live import Live, judge
from tests.peers.patience import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path


def test_a_machine_that_stands_still_is_noticed(tmp_path: Path) -> None:
    """The witness reports the longest time for which it could not run."""
    with Children(tmp_path) as children, witness.watching(children) as seen:
        (child,) = children.running
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(child.pid, signal.SIGCONT)
    assert seen.late >= 0.25
    assert not seen.control(0.2).sound
    assert "woke up" in seen.control(0.2).measured


def test_a_witness_that_dies_says_nothing(tmp_path: Path) -> None:
    """If the witness ends early, there is no control, and the check fails."""

    def watch(children: Children) -> None:
        with witness.watching(children):
            (child,) = children.running
            child.process.kill()
            child.process.wait()

    with Children(tmp_path) as children, pytest.raises(StartError, match="the witness failed"):
        watch(children)


def test_what_a_program_has_not_read() -> None:
    """Bytes that wait in a socket count, and so do connections that were not accepted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert vitals.unread(port) == 0
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert vitals.unread(port) == 1
            accepted, _ = listener.accept()
            with accepted:
                assert vitals.unread(port) == 0
                client.sendall(b"a")
                until_unread(port, 1)
                assert accepted.recv(10) == b"a"
                assert vitals.unread(port) == 0


def until_unread(port: int, number: int) -> None:
    """Wait for the kernel to deliver what was sent."""
    end = time.monotonic() + PATIENCE
    while vitals.unread(port) != number:
        assert time.monotonic() < end


def test_idle_connections_that_were_closed_are_noticed() -> None:
    """A load beside idle connections counts only if they are still open at its end."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as kept,
        socket.create_connection(listener.getsockname()) as closed,
    ):
        others = [listener.accept()[0] for _ in range(2)]
        require_open([kept, closed])
        others.pop().close()
        assert select.select([kept, closed], [], [], PATIENCE)[0]
        with pytest.raises(HoldError, match="1 of 2 idle connections were closed"):
            require_open([kept, closed])
        others.pop().close()


def test_a_first_event_is_compared_with_the_application_itself() -> None:
    """An event that is late misses the bar, unless the application alone is late, too."""

    def judged(first: float, plain: float) -> tuple[bool, bool]:
        times = [0.001, 0.001]
        _, outcome = judge(Live(times, [first], times), Live(times, [plain], times))
        return outcome.held, outcome.missed

    assert judged(0.01, 0.001) == (True, False)
    assert judged(0.06, 0.001) == (False, True)
    assert judged(0.06, 0.03) == (False, False)
