"""A whole sidecar in its own process, whose wall clock is stepped from outside.

Its argument is a settings file. It prints its two ports and then reads clock offsets in seconds
from standard input, one per line; each is acknowledged with a line once it is in effect.
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
    """Put the clock under the control of standard input, then run the sidecar."""
    offset, true_time = 0.0, time.time
    time.time = lambda: true_time() + offset

    def follow() -> None:
        nonlocal offset
        for line in sys.stdin:
            offset = float(line)
            print("stepped", flush=True)  # noqa: T201 (the protocol's answer)

    def ready(addresses: Addresses) -> None:
        ports = {"port": addresses.port, "admin_port": addresses.admin_port}
        print(json.dumps(ports), flush=True)  # noqa: T201 (the protocol's answer)
        threading.Thread(target=follow, daemon=True).start()

    import uvloop  # noqa: PLC0415 (after the clock)

    from sidecar.app.serve import serve  # noqa: PLC0415 (after the clock)
    from sidecar.settings import load  # noqa: PLC0415 (after the clock)

    uvloop.run(serve(load(env={}, file=Path(sys.argv[1])), ready=ready))


if __name__ == "__main__":
    main()
