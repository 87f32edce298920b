"""Reading /proc: fields, process trees and CPU clocks."""

from __future__ import annotations

import os
import time

import pytest

from bench import usage

STAT = "41 ({name}) S 7 41 41 0 -1 4194560 120 0 0 0 153 47 9 9 20 0 1 0 300 1000 50"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("nginx", id="plain"),
        pytest.param("tmux: server", id="space"),
        pytest.param("a) S 1 (b", id="parentheses"),
    ],
)
def test_stat_fields_follow_the_command_name(name: str) -> None:
    """The fields of /proc/<pid>/stat are found whatever characters the command name contains."""
    stat = usage.parse_stat(STAT.format(name=name))
    assert (stat.parent, stat.user, stat.system) == (7, 153, 47)


def test_rss_is_in_bytes() -> None:
    """A kB in /proc is 1024 bytes."""
    assert usage.parse_rss("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n") == 2048 * 1024


def test_rss_of_a_process_without_memory_is_zero() -> None:
    """A zombie process has no VmRSS line and counts as 0 bytes."""
    assert usage.parse_rss("Name:\tx\nState:\tZ (zombie)\n") == 0


def test_descendants_are_found_at_every_depth() -> None:
    """Descendants at every depth are included, and unrelated processes are not."""
    parents = {2: 1, 3: 2, 4: 3, 5: 1, 9: 8}
    assert sorted(usage.descendants(2, parents)) == [2, 3, 4]


def test_machine_time_leaves_idling_out() -> None:
    """Busy time is user, nice, system and interrupt time; stolen time is separate."""
    machine = usage.parse_machine("cpu  100 5 30 9000 70 2 3 11 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    assert (machine.busy, machine.stolen) == (140, 11)


@pytest.mark.parametrize(
    ("user", "system", "share"),
    [
        pytest.param(30, 10, 0.25, id="split"),
        pytest.param(0, 0, 0.0, id="no-ticks"),
    ],
)
def test_system_share(user: int, system: int, share: float) -> None:
    """The share of kernel time in all ticks is 0 if there were no ticks."""
    assert usage.system_share(user, system) == share


def test_cpu_clock_of_this_process_is_its_own() -> None:
    """The computed clock id reads the same clock as time.process_time_ns."""
    before = time.process_time_ns()
    seen = time.clock_gettime_ns(usage.cpu_clock(os.getpid()))
    assert before <= seen <= time.process_time_ns()


def test_difference_is_field_by_field() -> None:
    """The difference of two readings is computed for each field."""
    spent = usage.Usage(900, 9, 5) - usage.Usage(400, 4, 3)
    assert spent == usage.Usage(500, 5, 2)
