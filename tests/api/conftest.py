"""Fixtures for the tests of the control plane: a manual clock, and control planes that use it."""

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
    """The clock that every component of the test uses."""
    return Clock()


@pytest.fixture
async def start(
    aiohttp_client: AiohttpClient, aiohttp_server: AiohttpServer, clock: Clock
) -> AsyncIterator[Starter]:
    """Return a function that starts a control plane, with services changed by its arguments."""
    started: list[Services] = []

    async def begin(store: SessionStore | None = None, **changed: Any) -> Api:
        services = make_services(clock, store, **changed)
        started.append(services)
        # The same arguments as in the running program.
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
    """A control plane with default services."""
    return await start()
