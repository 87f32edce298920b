"""The resources that a sidecar holds: memory, tasks, open files and connections.

Memory, files and sockets are read from the kernel, the rest from the sidecar's /status. Must not
know what load the sidecar had.
"""

from __future__ import annotations

import contextlib
import http.client
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from bench import usage
from bench.children import PATIENCE

if TYPE_CHECKING:
    from bench.sidecar import Started

ESTABLISHED, CLOSE_WAIT = 1, 8  # states in which a connection is still held open (proc(5))


@dataclass(frozen=True, slots=True)
class Socket:
    """A line of /proc/net/tcp; ports in host order.

    `unread` is the number of bytes that have arrived and were not read, or for a socket that
    listens, of connections that were not accepted.
    """

    local: int
    remote: int
    state: int
    unread: int
    inode: int


class Connections(msgspec.Struct, frozen=True):
    """Open connections; those to the sidecar's own control plane count as `upstream`."""

    downstream: int
    upstream: int


class Status(msgspec.Struct, frozen=True):
    """The fields of /status that are used here."""

    connections: Connections
    requests_in_flight: int
    tasks: int
    store_transitions: list[object]


@dataclass(frozen=True, slots=True)
class Vitals:
    """All readings. `rss` in bytes; `files` without Redis; `at_upstream` counted by the kernel."""

    rss: int
    files: int
    to_redis: int
    at_upstream: int
    in_flight: int
    clients: int
    upstream: int
    tasks: int
    transitions: int  # between the shared store and local memory

    def as_idle_as(self, before: Vitals) -> bool:
        """Whether no requests or connections are left, and no more tasks or files than before."""
        busy = self.in_flight or self.clients or self.upstream or self.at_upstream
        return not busy and self.tasks <= before.tasks and self.files <= before.files


def read(started: Started, *, upstream_port: int, redis_port: int) -> Vitals:
    """Take one reading. Raises OSError if the sidecar has ended or does not respond."""
    pid = started.child.pid
    files = open_files(pid)  # before the request, which opens a file that is not closed at once
    status = ask(started.admin_port)
    sockets = parse_sockets((usage.PROC / "net" / "tcp").read_text())
    open_now = [each for each in sockets if each.state in (ESTABLISHED, CLOSE_WAIT)]
    to_redis = [
        each for each in open_now if each.remote == redis_port and f"socket:[{each.inode}]" in files
    ]
    return Vitals(
        rss=usage.rss([pid]),
        files=len(files) - len(to_redis),
        to_redis=len(to_redis),
        at_upstream=sum(each.local == upstream_port for each in open_now),
        in_flight=status.requests_in_flight,
        clients=status.connections.downstream,
        upstream=status.connections.upstream,
        tasks=status.tasks,
        transitions=len(status.store_transitions),
    )


def unread(port: int) -> int:
    """The number of this port's sockets with something that its program has not read."""
    sockets = parse_sockets((usage.PROC / "net" / "tcp").read_text())
    return sum(each.local == port and each.unread > 0 for each in sockets)


def open_files(pid: int) -> set[str]:
    """The targets of the process's file descriptors."""
    files = set()
    for entry in (usage.PROC / str(pid) / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed during the scan
            files.add(str(entry.readlink()))
    return files


def ask(admin_port: int) -> Status:
    """The sidecar's own status."""
    connection = http.client.HTTPConnection("127.0.0.1", admin_port, timeout=PATIENCE)
    try:
        connection.request("GET", "/status")
        return msgspec.json.decode(connection.getresponse().read(), type=Status)
    finally:
        connection.close()


def parse_sockets(table: str) -> list[Socket]:
    """Parse the lines of /proc/net/tcp."""
    sockets = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        local, remote = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
        unread = int(fields[4].partition(":")[2], 16)
        sockets.append(Socket(local, remote, int(fields[3], 16), unread, int(fields[9])))
    return sockets
