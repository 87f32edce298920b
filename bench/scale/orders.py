"""What the measuring process orders of the processes that simulate pods, and what they answer.

One JSON document per line in either direction. Must not know sockets.
"""

from __future__ import annotations

import msgspec

from bench.scale.tally import Tally


class Start(msgspec.Struct, tag=True, frozen=True):
    """Start so many more pods at once; answered when all track Redis, without `wait` at once.

    Each pod then reads the first `reads` sessions of the population, as if requests had waited.
    """

    pods: int
    reads: int = 0
    wait: bool = True


class Read(msgspec.Struct, tag=True, frozen=True):
    """Let the first `pods` pods read these sessions, `batch` of them per command.

    The sessions are pairs of token id and sid, or those of the population from `first` to before
    `end`. Without `seen`, the pods do not record that they were seen.
    """

    pods: int
    batch: int
    sessions: list[tuple[str, str]] = []
    first: int = 0
    end: int = 0
    seen: bool = True


class Serve(msgspec.Struct, tag=True, frozen=True):
    """Let requests arrive at all pods for `seconds`, at `rate` per second and pod, from now on.

    Each has a random one of the first `sessions` sessions of the population. Answered at once.
    """

    rate: float
    seconds: float
    sessions: int


class Await(msgspec.Struct, tag=True, frozen=True):
    """Answer with the receipts once the first `pods` pods know that this session has changed.

    Answered twice: at once with `Done`, when the pods watch, and then with `Receipts`.
    """

    pods: int
    token: str


class Move(msgspec.Struct, tag=True, frozen=True):
    """Redis is now on another port."""

    port: int


class Count(msgspec.Struct, tag=True, frozen=True):
    """Answer with the tally since the last one."""


class Done(msgspec.Struct, tag=True, frozen=True):
    """The order has been carried out. `tally` is what was counted since the last answer."""

    tally: Tally


class Receipts(msgspec.Struct, tag=True, frozen=True):
    """When each pod received the invalidation, by the monotonic clock."""

    moments: list[float]


class Failed(msgspec.Struct, tag=True, frozen=True):
    """The order could not be carried out, or the process is broken."""

    message: str


Order = Start | Read | Serve | Await | Move | Count
Answer = Done | Receipts | Failed
