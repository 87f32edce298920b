"""A real Express application reads paths more loosely than a route, unless the route says so.

Express ignores the case of a path and its final slash. The first test shows which spellings it
serves as the restricted page.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.peers.raw_client import build, fetch
from tests.peers.stack import stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MODULES: Final = "/usr/share/nodejs"
SPELLINGS: Final = (
    ("/admin", "admin"),
    ("/ADMIN", "admin"),
    ("/admin/", "admin"),
    ("/Admin/", "admin"),
    ("/admin/reports", "reports"),
    ("/ADMIN/reports", "reports"),
    ("/admin/reports/", "reports"),
    ("/aDmIn/RePoRtS/", "reports"),
)
LOOSE: Final = {"paths_case": "insensitive", "trailing_slash": "ignore", "roles": ["admin"]}
ROUTES: Final = (
    {"path": "/admin", **LOOSE},
    {"path": "/admin/reports", **LOOSE},
    {"path": "/*", "access": "public"},
)
STRICT: Final = (
    {"path": "/admin", "roles": ["admin"]},
    {"path": "/admin/reports", "roles": ["admin"]},
    {"path": "/*", "access": "public"},
)

pytestmark = pytest.mark.needs("node", f"{MODULES}/express/package.json")


@contextlib.asynccontextmanager
async def express() -> AsyncIterator[int]:
    """The port of a running Express application."""
    process = await asyncio.create_subprocess_exec(
        *("node", str(Path(__file__).with_name("express_app.js"))),
        env={**os.environ, "NODE_PATH": MODULES},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield int(await asyncio.wait_for(process.stdout.readline(), 20))
    finally:
        process.kill()
        await process.wait()


async def test_express_serves_every_spelling() -> None:
    """Without the sidecar, and past exact rules that do not say so, each spelling is served."""
    async with express() as port, stack(f"http://127.0.0.1:{port}", routes=STRICT) as running:
        for path, page in SPELLINGS:
            answer = await asyncio.wait_for(fetch(port, build("GET", path)), 5)
            assert answer.body.decode() == page, path
        assert (await running.ask(build("GET", "/admin"))).status == 401
        assert (await running.ask(build("GET", "/ADMIN"))).body == b"admin"


async def test_no_spelling_gets_past_rules_that_say_what_express_does() -> None:
    """With both options, each spelling needs the role, and is served with it."""
    async with express() as port, stack(f"http://127.0.0.1:{port}", routes=ROUTES) as running:
        user, admin = await running.login(), await running.login("admin")
        for path, page in SPELLINGS:
            assert (await running.ask(build("GET", path))).status == 401, path
            assert (await running.ask(build("GET", path, token=user.access))).status == 403, path
            served = await running.ask(build("GET", path, token=admin.access))
            assert served.body.decode() == page, path
        assert (await running.ask(build("GET", "/administrator"))).body == b"other"
