"""The session cookie under other attributes, and requests with two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.peers.raw_client import build
from tests.peers.stack import stack
from tests.proxy.handshake import ASK

if TYPE_CHECKING:
    from tests.peers.scripted_upstream import ScriptedUpstream


@pytest.mark.parametrize("samesite", ["lax", "strict", "none"])
async def test_forgery_whatever_browsers_send(upstream: ScriptedUpstream, samesite: str) -> None:
    """The rule about other sites' requests does not depend on SameSite."""
    other: dict[str, Any] = {
        "session_cookie": "__Secure-session",
        "session_cookie_domain": "example.com",
    }
    async with stack(upstream.url, session_cookie_samesite=samesite, **other) as running:
        cookie = f"Cookie: {await running.cookie()}"
        evil = "Origin: https://evil.example"
        assert (await running.ask(build("POST", "/x", cookie, evil))).status == 403
        assert (await running.ask(build("POST", "/x", cookie))).status == 403
        assert (await running.get("/x", *ASK, cookie, evil)).status == 403
        assert upstream.requests == []
        own = "Origin: http://sidecar.test"
        assert (await running.ask(build("POST", "/x", cookie, own))).status == 200


async def test_two_cookies_lead_to_the_sign_in_page(upstream: ScriptedUpstream) -> None:
    """A browser with two session cookies is sent to log in, and a script gets 401."""
    async with stack(upstream.url) as running:
        cookie = await running.cookie()
        both = f"Cookie: {cookie}; {cookie}"
        answer = await running.get("/x", both, "Sec-Fetch-Mode: navigate")
        assert (answer.status, answer.fields.one("Location")) == (302, b"/auth/login?rd=/x")
        assert (await running.get("/x", both)).status == 401
        sample = 'sidecar_decisions_total{decision="deny",reason="cookie_repeated"}'
        assert await running.metric(sample) == 2
    assert upstream.requests == []
