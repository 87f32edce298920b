"""Features of config/nginx.conf beyond those of all proxies (see test_fronts)."""

from __future__ import annotations

import pytest

from tests.contract.fronts import nginx
from tests.peers.raw_client import build, connect, fetch
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import stack

pytestmark = pytest.mark.needs("nginx")


async def test_the_question_has_a_place_of_its_own() -> None:
    """Clients cannot reach the subrequest's location; an outage gives 503 and Retry-After."""
    async with (
        ScriptedUpstream() as application,
        stack(application.url, trusted_proxies=["127.0.0.1/32"]) as sidecar,
    ):
        with nginx(sidecar.port, application.port) as port:
            for target in ("/_auth", "/auth/verify", "/auth/%76erify"):
                answer = await fetch(port, build("GET", target, "X-Original-URI: /open"))
                assert answer.status == 404
            await sidecar.sidecar.stop()
            answer = await fetch(port, build("GET", "/open"))
            assert (answer.status, answer.fields.one("Retry-After")) == (503, b"1")
            assert answer.fields.one("Content-Type") == b"application/problem+json"
            assert not application.requests


async def test_connections_are_kept() -> None:
    """Twenty requests need only one connection to the application and one to the sidecar.

    Twenty denied ones need no more: nginx closes the connection if the answer to its subrequest has
    a body that it must skip.
    """
    async with (
        ScriptedUpstream() as application,
        stack(application.url, trusted_proxies=["127.0.0.1/32"]) as sidecar,
    ):
        with nginx(sidecar.port, application.port) as port:
            token = (await sidecar.login()).access
            async with connect(port) as client:
                for _ in range(20):
                    assert (await client.ask(build("GET", "/", token=token))).status == 200
                for _ in range(20):
                    assert (await client.ask(build("GET", "/"))).status == 401
            assert len(application.connections) == 1
            assert await sidecar.metric('sidecar_connections{side="downstream"}') == 1
