"""A whole sidecar in its own process, started as an operator would, and sent signals."""

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

_PATIENCE = 20.0  # seconds for a process to start or to end


@dataclass(slots=True)
class Process:
    """A sidecar process; `lines` are the log lines read so far.

    `folder` holds its configuration, as `configure` writes it. The ports are 0 until it listens.
    """

    child: asyncio.subprocess.Process
    folder: Path
    port: int = 0
    admin_port: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def messages(self) -> list[str]:
        """The messages it has logged."""
        return [str(line.get("message")) for line in self.lines]

    async def said(self, message: str) -> dict[str, Any]:
        """Return the next log line with this message; EOFError if the process ends without it."""
        assert self.child.stdout is not None
        async with asyncio.timeout(_PATIENCE):
            while raw := await self.child.stdout.readline():
                line = json.loads(raw)
                self.lines.append(line)
                if line["message"] == message:
                    return dict(line)
        raise EOFError(f"process ended after {self.messages}")

    async def ready(self) -> int:
        """Return the status of /readyz."""
        return (await fetch(self.admin_port, build("GET", "/readyz"))).status

    async def get(self, target: str = "/", *, token: str | None = None) -> Response:
        """Send one GET on a new connection."""
        return await fetch(self.port, build("GET", target, token=token))

    async def login(self) -> Response:
        """Log in as alice and return the answer."""
        body = b'{"username": "alice", "password": "pw-alice"}'
        json_ = "Content-Type: application/json"
        return await fetch(self.port, build("POST", "/auth/login", json_, body=body))

    def tell(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.child.send_signal(number)

    async def ended(self) -> int:
        """Wait for the end and return the exit code; remaining log lines are added to `lines`."""
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
    """Run `sidecar run` in front of this upstream; with `listens`, wait until it listens.

    `environ` adds to the environment variables of this process.
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
