"""The lines of docs/subrequests.md that let a proxy delete a stale session cookie."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.contract import fronts
from tests.peers.patience import until
from tests.peers.raw_client import build, fetch
from tests.peers.redis_server import free_port
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import stack

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "subrequests.md"
STALE: Final = f"Cookie: __Host-session={'A' * 43}"
# By proxy: a line of its file in `config`, and the documented lines that follow it
ADDED: Final = {
    "nginx": (
        "            proxy_set_header X-Auth-User       $auth_user;\n",
        (
            "auth_request_set $auth_cookie $upstream_http_set_cookie;",
            "add_header Set-Cookie $auth_cookie always;",
        ),
    ),
    "traefik": (
        "        trustForwardHeader: false\n",
        ("addAuthCookiesToResponse: [__Host-session]",),
    ),
    "envoy": (
        "                            patterns: [{prefix: x-auth-}]\n",
        ("allowed_client_headers_on_success: {patterns: [{exact: set-cookie}]}",),
    ),
}
INDENT: Final = {"nginx": 12, "traefik": 8, "envoy": 26}


@pytest.mark.parametrize(
    "front",
    [
        pytest.param(each, id=each.name, marks=pytest.mark.needs(each.program))
        for each in fronts.FRONTS
        if each.name in ADDED
    ],
)
async def test_the_client_is_told(front: fronts.Front) -> None:
    """The client gets the line that deletes the cookie, and nobody else does."""
    before, added = ADDED[front.name]
    assert all(line in DOCUMENT.read_text("utf-8") for line in added)
    lines = "".join(" " * INDENT[front.name] + line + "\n" for line in added)
    start = {"nginx": fronts.nginx, "traefik": fronts.traefik, "envoy": fronts.envoy}[front.name]
    sidecar_port = free_port()
    port = free_port(sidecar_port)
    with start(sidecar_port, port, {before: before + lines}) as front_port:
        async with (
            ScriptedUpstream(port=port) as application,
            stack(
                application.url,
                listen=f"127.0.0.1:{sidecar_port}",
                routes=({"path": "/either/*", "access": "optional"},),
                trusted_proxies=["127.0.0.1/32"],
            ),
        ):

            async def is_ready() -> bool:
                return (await fetch(front_port, build("GET", "/either/x"))).status == 200

            await until(is_ready)
            stale = await fetch(front_port, build("GET", "/either/x", STALE))
            [line] = stale.fields.all("set-cookie")
            assert line.startswith(b"__Host-session=;")
            assert {b"Max-Age=0", b"Path=/", b"Secure"} <= set(line.split(b"; "))
            other = await fetch(front_port, build("GET", "/either/x"))
            assert other.fields.all("set-cookie") == []
            assert not any(seen.fields.all("set-cookie") for seen in application.requests)
