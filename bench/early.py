"""The check `early`: an application that answers while the upload still runs, and then closes.

Owns that application, clients that go on sending, and the count of answers that were lost on the
way. HAProxy is measured in the same run, and without any proxy too.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench import report, sidecar
from bench.children import PATIENCE, free_port
from bench.outcome import Control, Finding, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.lab import Lab

TIMES: Final = 60  # uploads of each kind
MOST_LOST: Final = 0.15  # of the answers
UPLOAD: Final = 8 * 1024 * 1024
CHUNK: Final = b"x" * 65536
# Octets of an answer, and the seconds between it and the close, in turn. Of a large one that is
# closed at once, the kernel loses a part even without a proxy.
PAUSES: Final = {3: (0.0, 0.001, 0.01, 0.05), 200_000: (0.01, 0.05)}
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: the kernel sends RST


@dataclass(frozen=True, slots=True)
class Kind:
    """How the application closes, how much it answers, and whether the client reads meanwhile."""

    ending: str
    size: int
    reads: bool

    @property
    def name(self) -> str:
        """What it is called in the table."""
        way = "reads" if self.reads else "sends first"
        return f"{self.ending}, {self.size:,} octets, {way}"


KINDS: Final = tuple(
    Kind(ending, size, reads)
    for ending in ("FIN", "close", "RST")
    for size in PAUSES
    for reads in (True, False)
)


def check(lab: Lab) -> Finding:
    """Upload through the sidecar, HAProxy and directly, and count the answers that are lost."""
    with application() as port:
        started = sidecar.start(
            lab, "sidecar-early", upstream_port=port, template="sidecar-uploads.toml"
        )
        values = {"PORT": str(free_port()), "UPSTREAM": str(port)}
        config = lab.fill("haproxy-early.cfg", "haproxy-early.cfg", values)
        haproxy = lab.children.spawn("haproxy", ["haproxy", "-db", "-f", str(config)])
        haproxy.wait_listening(int(values["PORT"]))
        ports = {"sidecar": started.port, "HAProxy": int(values["PORT"]), "no proxy": port}
        lost = {kind: dict.fromkeys(ports, 0) for kind in KINDS}
        for turn in range(TIMES):
            for kind in KINDS:
                pauses = PAUSES[kind.size]
                pause = pauses[turn % len(pauses)]
                for name, each in ports.items():
                    lost[kind][name] += not upload(each, kind, pause)
    rows = [[kind.name, *(f"{each / TIMES:.0%}" for each in lost[kind].values())] for kind in KINDS]
    return Finding(judge(lost), [report.table(["lost answers", *ports], rows)])


def judge(lost: dict[Kind, dict[str, int]]) -> list[Outcome]:
    """The sidecar loses at most `MOST_LOST`, or what HAProxy loses where that is more."""
    outcomes = []
    for kind, each in lost.items():
        limit = max(MOST_LOST, each["HAProxy"] / TIMES)
        share = each["sidecar"] / TIMES
        name, measured = f"early: {kind.name}", f"{share:.0%} lost"
        plain = each["no proxy"] / TIMES
        bare = Control(f"without a proxy, {plain:.0%} were lost", plain <= MOST_LOST / 2)
        outcomes.append(Outcome(name, measured, f"at most {limit:.0%}", share <= limit, bare))
    return outcomes


@contextlib.contextmanager
def application() -> Iterator[int]:
    """Run the application, and yield its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def accept(listener: socket.socket) -> None:
    """Answer each connection in its own thread until the listener closes."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection: socket.socket) -> None:
    """Answer a request as its path says as soon as the head is there; read nothing more."""
    with connection, contextlib.suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1024)
        _, ending, size, pause = head.split()[1].decode().split("/")
        body = b"n" * int(size)
        connection.sendall(
            b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (len(body), body)
        )
        if ending == "FIN":
            connection.shutdown(socket.SHUT_WR)
        time.sleep(float(pause))
        if ending == "RST":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def upload(port: int, kind: Kind, pause: float) -> bool:
    """Send an upload; whether the whole answer arrived."""
    target = f"/{kind.ending}/{kind.size}/{pause}"
    head = f"POST {target} HTTP/1.1\r\nHost: bench\r\nContent-Length: {UPLOAD}\r\n\r\n"
    got, left, end = b"", UPLOAD, time.monotonic() + PATIENCE
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(head.encode())
        client.setblocking(False)
        while time.monotonic() < end:
            reads = [client] if kind.reads or not left else []
            readable, writable, _ = select.select(reads, [client] if left else [], [], 0.2)
            if readable:
                try:
                    data = client.recv(65536)
                except OSError:
                    return False
                got += data
                if not data or len(got.partition(b"\r\n\r\n")[2]) >= kind.size:
                    break
            if writable:
                try:
                    left -= client.send(CHUNK[:left])
                except OSError:
                    left = 0
    return got.startswith(b"HTTP/1.1 413 ") and len(got.partition(b"\r\n\r\n")[2]) == kind.size
