"""`python -m sidecar.demo`: runs only the demo application; its sidecar runs elsewhere."""

from __future__ import annotations

import sys
from typing import Final

from aiohttp import web

from sidecar.demo.application import build_application

HOST: Final = "127.0.0.1"
PORT: Final = 8080

if __name__ == "__main__":
    sys.stdout.write(f"demo application listening on http://{HOST}:{PORT}, for a sidecar\n")
    sys.stdout.flush()
    web.run_app(build_application(), host=HOST, port=PORT, print=None, shutdown_timeout=1.0)
