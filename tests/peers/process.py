"""A whole sidecar in a process of its own, as an operator starts it, and the signals it gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.peers.raw_client import build, fetch
from tests.peers.stack import configure

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator, Mapping

    from tests.peers.raw_client import Response

_PATIENCE = 20.0  # seconds for a process to start, or to end


@dataclass(slots=True)
class Process:
    """One that has said what it listens on; `lines` are what it has logged.

    `folder` holds its configuration, as `configure` writes it.
    """

    child: asyncio.subprocess.Process
    folder: Path
    port: int = 0
    admin_port: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def messages(self) -> list[str]:
        """What it has logged, in words."""
        return [str(line.get("message")) for line in self.lines]

    async def said(self, message: str) -> dict[str, Any]:
        """The next log line of these words. Raises EOFError when the process ends without it."""
        assert self.child.stdout is not None
        async with asyncio.timeout(_PATIENCE):
            while raw := await self.child.stdout.readline():
                line = json.loads(raw)
                self.lines.append(line)
                if line["message"] == message:
                    return dict(line)
        raise EOFError(f"it ended after {self.messages}")

    async def ready(self) -> int:
        """The status of /readyz."""
        return (await fetch(self.admin_port, build("GET", "/readyz"))).status

    async def get(self, target: str = "/", *, token: str | None = None) -> Response:
        """One request on a connection of its own."""
        return await fetch(self.port, build("GET", target, token=token))

    async def login(self) -> Response:
        """What alice gets for her password."""
        body = b'{"username": "alice", "password": "pw-alice"}'
        json_ = "Content-Type: application/json"
        return await fetch(self.port, build("POST", "/auth/login", json_, body=body))

    def tell(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.child.send_signal(number)

    async def ended(self) -> int:
        """Its exit code, once it has ended; what it logged until then is in `lines`."""
        with contextlib.suppress(EOFError):
            await self.said("no such line")
        async with asyncio.timeout(_PATIENCE):
            return await self.child.wait()


@contextlib.asynccontextmanager
async def process(
    upstream_url: str,
    *,
    listens: bool = True,
    environ: Mapping[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[Process]:
    """`sidecar run` in front of this upstream; unless `listens`, it is not waited for.

    `environ` are variables that it has beside ours.
    """
    with tempfile.TemporaryDirectory() as folder:
        configure(Path(folder), upstream_url, **settings)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sidecar", "run", "--config", f"{folder}/sidecar.toml"),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **(environ or {})},
        )
        running = Process(child, Path(folder))
        try:
            if listens:
                line = await running.said("listening")
                running.port, running.admin_port = line["port"], line["admin_port"]
            yield running
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
