"""A witness of how the machine lets programs run: `python -m bench.witness`.

Owns a program that wakes up at fixed times and notes how late it was. No measured program has a
part in it. So it is the control of bars that only hold where nothing runs much later than it
should: a readiness check in time, an answer of Redis within its limit.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.children import PATIENCE, StartError
from bench.outcome import Control

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.children import Children

EVERY_SECONDS = 0.005
READY = "watching"


@dataclass(slots=True)
class Witness:
    """By how many seconds the program woke up late, at most; 0 until it has ended."""

    late: float = 0.0

    def control(self, most: float) -> Control:
        """A control that is sound up to this many seconds."""
        late, limit = self.late * 1e3, most * 1e3
        shown = (
            f"a program that only sleeps woke up {late:.0f} ms late, and may be {limit:g} ms late"
        )
        return Control(shown, self.late <= most)


@contextlib.contextmanager
def watching(children: Children) -> Iterator[Witness]:
    """Run the program during the block. Raises StartError if it does not start, or fails."""
    child = children.spawn("witness", [sys.executable, "-m", "bench.witness"])
    deadline = time.monotonic() + PATIENCE
    while READY not in child.tail():
        if child.process.poll() is not None or time.monotonic() > deadline:
            raise StartError(f"the witness does not start:\n{child.tail()}")
        time.sleep(EVERY_SECONDS)
    seen = Witness()
    try:
        yield seen
    finally:
        child.process.send_signal(signal.SIGINT)
        code = child.process.wait(PATIENCE)
    if code:
        raise StartError(f"the witness failed:\n{child.tail()}")
    seen.late = float(child.tail(1))


def main() -> None:
    """Wake up regularly until SIGINT, and print the longest delay in seconds."""
    late, due = 0.0, time.perf_counter()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        while True:
            due = max(due, time.perf_counter()) + EVERY_SECONDS
            time.sleep(max(0.0, due - time.perf_counter()))
            late = max(late, time.perf_counter() - due)
    except KeyboardInterrupt:
        sys.stdout.write(f"{max(late, time.perf_counter() - due):.6f}\n")


if __name__ == "__main__":
    main()
