"""Fixtures of the control plane's tests: a clock to turn and control planes on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import DummyCookieJar

from sidecar.api.app import build_api
from tests.api.control_plane import Api, Clock, make_services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from aiohttp import web
    from aiohttp.test_utils import TestClient
    from pytest_aiohttp import AiohttpClient, AiohttpServer

    from sidecar.api.services import Services
    from sidecar.sessions.store import SessionStore
    from tests.api.control_plane import Starter


@pytest.fixture
def clock() -> Clock:
    """The clock of everything in the test."""
    return Clock()


@pytest.fixture
async def start(
    aiohttp_client: AiohttpClient, aiohttp_server: AiohttpServer, clock: Clock
) -> AsyncIterator[Starter]:
    """Starts a control plane with services that differ by what is given."""
    started: list[Services] = []

    async def begin(store: SessionStore | None = None, **changed: Any) -> Api:
        services = make_services(clock, store, **changed)
        started.append(services)
        # As the composition root runs it.
        server = await aiohttp_server(build_api(services), access_log=None, auto_decompress=False)
        client: TestClient[web.Request, Any] = await aiohttp_client(
            server, cookie_jar=DummyCookieJar()
        )
        return Api(client, services, clock)

    yield begin
    for services in started:
        services.passwords.close()


@pytest.fixture
async def api(start: Starter) -> Api:
    """A control plane as it is by default."""
    return await start()
