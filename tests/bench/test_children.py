"""Child processes: readiness, failed starts, and that no process survives the run."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from bench import usage
from bench.children import Children, StartError, free_port, stoppable

if TYPE_CHECKING:
    from pathlib import Path

SERVER = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); s.accept()"
STUBBORN = (
    "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']);"
    "print('up', flush=True); signal.pause()"
)


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return "\nState:\tZ" not in (usage.PROC / str(pid) / "status").read_text()
    except FileNotFoundError:
        return False


def test_listening_child_is_ready_and_then_stopped(tmp_path: Path) -> None:
    """A child is ready when it listens, and has ended after the block."""
    port = free_port()
    with Children(tmp_path) as children:
        child = children.spawn("server", [sys.executable, "-c", SERVER, str(port)])
        child.wait_listening(port)
        assert repr(child) == f"<Child server pid={child.pid}>"
    assert not alive(child.pid)


def test_child_that_ends_early_is_named_with_its_last_words(tmp_path: Path) -> None:
    """If a child ends early, the error names it and includes the end of its log."""
    with Children(tmp_path) as children:
        child = children.spawn("broken", [sys.executable, "-c", "raise SystemExit('bad port')"])
        with pytest.raises(StartError, match=r"broken ended with status 1:\nbad port"):
            child.wait_listening(free_port())


def test_failure_in_the_block_stops_children(tmp_path: Path) -> None:
    """An exception in the block ends the children."""
    pids = []

    def fail() -> None:
        with Children(tmp_path) as children:
            pids.append(children.spawn("idle", [sys.executable, "-c", "input()"]).pid)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert not alive(pids[0])


def test_workers_end_with_a_master_that_had_to_be_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ignores SIGTERM is killed together with its child processes."""
    monkeypatch.setattr("bench.children.STOP_SECONDS", 0.5)
    with Children(tmp_path) as children:
        child = children.spawn("stubborn", [sys.executable, "-c", STUBBORN])
        while "up" not in child.tail():
            assert child.process.poll() is None
        pids = usage.tree(child.pid)
    assert len(pids) == 2
    assert not alive(pids[0])
    assert not alive(pids[1])


def test_termination_unwinds_like_an_interrupt() -> None:
    """SIGTERM raises KeyboardInterrupt in the block; afterwards the old handler is restored."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
