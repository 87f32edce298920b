"""CPU time and resident memory of processes, read from the kernel.

Owns the parsing of /proc. Must not know what the processes are or why they are measured.
A process's CPU clock (clock_getcpuclockid(3)) counts nanoseconds of all its threads, including
ended ones; /proc/<pid>/stat counts ticks of 10 ms and is used only to split user and system time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/<pid>/stat that are used; times in clock ticks."""

    parent: int
    user: int
    system: int


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time of a set of processes: nanoseconds in total, ticks for the split."""

    nanoseconds: int
    user: int
    system: int

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.nanoseconds - other.nanoseconds,
            self.user - other.user,
            self.system - other.system,
        )


def system_share(user: int, system: int) -> float:
    """The share of ticks spent in the kernel, 0 to 1; 0 if there were none."""
    return system / (user + system) if user + system else 0.0


def parse_stat(text: str) -> Stat:
    """Parse /proc/<pid>/stat; the command name may contain spaces and parentheses (proc(5))."""
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(parent=int(fields[1]), user=int(fields[11]), system=int(fields[12]))


def parse_rss(status: str) -> int:
    """Resident bytes from /proc/<pid>/status; 0 for a kernel thread or a zombie process."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def descendants(root: int, parents: dict[int, int]) -> list[int]:
    """`root` and all its descendants, given the parent of each process."""
    found = [root]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def tree(root: int) -> list[int]:
    """`root` and its living descendants."""
    parents: dict[int, int] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = parse_stat((entry / "stat").read_text()).parent
            except (FileNotFoundError, ProcessLookupError):
                continue  # the process ended during the scan
    return descendants(root, parents)


def cpu_clock(pid: int) -> int:
    """The id of the CPU clock of process `pid`, as clock_getcpuclockid(3) computes it."""
    return (~pid << 3) | 2


def usage(pids: list[int]) -> Usage:
    """The CPU time that `pids` have used since they started. Raises OSError if one has ended."""
    nanoseconds = user = system = 0
    for pid in pids:
        nanoseconds += time.clock_gettime_ns(cpu_clock(pid))
        stat = parse_stat((PROC / str(pid) / "stat").read_text())
        user += stat.user
        system += stat.system
    return Usage(nanoseconds, user, system)


def rss(pids: list[int]) -> int:
    """Resident bytes of `pids` in total; pages shared by several processes count for each."""
    return sum(parse_rss((PROC / str(pid) / "status").read_text()) for pid in pids)


@dataclass(frozen=True, slots=True)
class Machine:
    """Clock ticks of all CPUs since boot: busy ones, and those withheld by the host of a VM."""

    busy: int
    stolen: int


def parse_machine(text: str) -> Machine:
    """Parse the first line of /proc/stat (proc(5))."""
    fields = [int(field) for field in text.split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, stolen = fields
    return Machine(user + nice + system + irq + softirq, stolen)


def machine() -> Machine:
    """The ticks of the whole machine since boot."""
    return parse_machine((PROC / "stat").read_text())
