"""A whole sidecar in a process of its own, whose wall clock is stepped from outside.

Run with a settings file. It prints its two ports, and then reads from standard input by how many
seconds its clock is to be off, a number a line; each is answered with a line once it holds.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.app.serve import Addresses


def main() -> None:
    """Turn the clock over to standard input before anything of the sidecar is imported."""
    offset, true_time = 0.0, time.time
    time.time = lambda: true_time() + offset

    def follow() -> None:
        nonlocal offset
        for line in sys.stdin:
            offset = float(line)
            print("stepped", flush=True)  # noqa: T201 (its answer)

    def ready(addresses: Addresses) -> None:
        ports = {"port": addresses.port, "admin_port": addresses.admin_port}
        print(json.dumps(ports), flush=True)  # noqa: T201 (its answer)
        threading.Thread(target=follow, daemon=True).start()

    import uvloop  # noqa: PLC0415 (after the clock)

    from sidecar.app.serve import serve  # noqa: PLC0415 (the same)
    from sidecar.settings import settings_from  # noqa: PLC0415 (the same)

    uvloop.run(serve(settings_from(env={}, file=Path(sys.argv[1])), ready=ready))


if __name__ == "__main__":
    main()
