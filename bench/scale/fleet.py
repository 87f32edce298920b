"""The simulated pods of all processes, as the measurements use them.

Owns the processes and the sockets to them. Must not know what is measured.
"""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import msgspec

from bench.children import START_SECONDS, StartError
from bench.scale.orders import (
    Answer,
    Await,
    Count,
    Done,
    Failed,
    Move,
    Order,
    Read,
    Receipts,
    Serve,
    Start,
)
from bench.scale.tally import Tally, joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from bench.lab import Lab
    from bench.scale.population import Known

ANSWER_SECONDS = 180.0


class FleetError(Exception):
    """A process of simulated pods did not do what it was asked to do; the message says why."""


class Fleet:
    """Pods in `processes` processes, which end with the `with` block."""

    def __init__(self, lab: Lab, realm: str, port: int, processes: int) -> None:
        self.pods = 0
        self._decode = msgspec.json.Decoder(Answer).decode
        path = lab.directory / "fleet.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            listener.settimeout(START_SECONDS)
            argv = [sys.executable, "-m", "bench.scale.worker", str(path), realm, str(port)]
            self.children = [
                lab.children.spawn(f"pods-{port}-{number}", argv, cpu=lab.proxy_cpu)
                for number in range(processes)
            ]
            try:
                self._sockets = [listener.accept()[0] for _ in range(processes)]
            except TimeoutError:
                raise StartError(f"the simulated pods do not start:{self._logs()}") from None
        path.unlink()
        for each in self._sockets:
            each.settimeout(ANSWER_SECONDS)
        self._files = [each.makefile("rb") for each in self._sockets]

    def __repr__(self) -> str:
        return f"<Fleet of {self.pods} pods in {len(self._sockets)} processes>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all pods and their processes."""
        for file in self._files:
            file.close()
        for each in self._sockets:
            each.close()
        for child in self.children:
            child.stop()

    def start(self, pods: int, *, reads: int = 0, wait: bool = True) -> Tally:
        """Start so many more pods at once; with `wait`, return when all of them track Redis.

        Each of them then reads so many sessions of the population.
        """
        shares, before = self._shares(self.pods + pods), self._shares(self.pods)
        self.pods += pods
        pairs = zip(shares, before, strict=True)
        self._send([Start(now - old, reads, wait) for now, old in pairs])
        return self.finish()

    def read(
        self,
        pods: int,
        sessions: Iterable[Known] = (),
        *,
        numbers: tuple[int, int] = (0, 0),
        batch: int,
        seen: bool = True,
    ) -> Tally:
        """Let the first pods read these sessions, and those with numbers in this range."""
        pairs = [(each.token, each.sid) for each in sessions]
        first, end = numbers
        self._send([Read(share, batch, pairs, first, end, seen) for share in self._shares(pods)])
        return self.finish()

    def serve(self, rate: float, seconds: float, sessions: int) -> None:
        """Let requests arrive for some seconds from now on, at `rate` per second and pod."""
        self._send([Serve(rate, seconds, sessions)] * len(self._sockets))
        self.finish()

    def watch(self, pods: int, token: str) -> None:
        """Let the first pods watch for a change of this session; `receipts` returns when."""
        self._send([Await(share, token) for share in self._shares(pods)])
        self.finish()

    def receipts(self) -> list[float]:
        """When each of the watching pods received the invalidation."""
        found = [self._answer(number) for number in range(len(self._files))]
        return [at for each in found if isinstance(each, Receipts) for at in each.moments]

    def move(self, port: int) -> Tally:
        """Tell all pods that Redis is on another port. Returns what was counted until then."""
        self._send([Move(port)] * len(self._sockets))
        return self.finish()

    def count(self) -> Tally:
        """What was counted since the last answer."""
        self._send([Count()] * len(self._sockets))
        return self.finish()

    def finish(self) -> Tally:
        """Wait until the last order is carried out. Returns what was counted meanwhile."""
        found = [self._answer(number) for number in range(len(self._files))]
        return joined([each.tally for each in found if isinstance(each, Done)])

    def _shares(self, pods: int) -> list[int]:
        """How many of the first `pods` pods each process has."""
        count = len(self._sockets)
        return [pods // count + (number < pods % count) for number in range(count)]

    def _send(self, orders: Sequence[Order]) -> None:
        for each, order in zip(self._sockets, orders, strict=True):
            try:
                each.sendall(msgspec.json.encode(order) + b"\n")
            except OSError:
                raise self._ended() from None

    def _ended(self) -> FleetError:
        return FleetError(f"a process of simulated pods has ended:{self._logs()}")

    def _logs(self) -> str:
        return "".join(f"\n{child.tail(40)}" for child in self.children)

    def _answer(self, number: int) -> Answer:
        try:
            line = self._files[number].readline()
        except TimeoutError:
            raise FleetError("the simulated pods do not answer") from None
        if not line:
            raise self._ended()
        answer: Answer = self._decode(line)
        if isinstance(answer, Failed):
            raise FleetError(answer.message)
        return answer
