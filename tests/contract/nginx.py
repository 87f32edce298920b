"""A real nginx that runs a configuration file of ours, with our servers' addresses filled in.

The listening socket is made here and handed over, so that its port is free and a connection made
before nginx is ready waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


@contextlib.asynccontextmanager
async def nginx(template: Path, listen: str, moved: Mapping[str, int]) -> AsyncIterator[int]:
    """Run nginx; the port it listens on.

    `listen` is the address that the file listens on; `moved` gives the local port for each other
    address in it. Raises AssertionError when one is not in the file, or nginx ends with a fault.
    """
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        text = template.read_text()
        for address, target in {listen: port, **moved}.items():
            if address not in text:
                raise AssertionError(f"{template}: no {address} to replace")
            text = text.replace(address, f"127.0.0.1:{target}")
        config = Path(folder) / "nginx.conf"
        config.write_text(text)
        process = await asyncio.create_subprocess_exec(
            *("nginx", "-p", folder, "-c", str(config), "-g", "daemon off;"),
            env={**os.environ, "NGINX": f"{server.fileno()};"},  # how nginx inherits a socket
            pass_fds=[server.fileno()],
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield port
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            _, complaints = await process.communicate()
        if process.returncode:
            raise AssertionError(f"nginx ended with {process.returncode}: {complaints.decode()}")
