"""Signing in over plain HTTP as a browser does, which keeps no Secure cookie there."""

from __future__ import annotations

from tests.peers.raw_client import build
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import stack

NOTE = b"This page was opened over plain HTTP."
HTML = "Accept: text/html"
FORM = "Content-Type: application/x-www-form-urlencoded"


async def test_the_page_that_comes_back_says_why() -> None:
    """A right password leads back to the sign-in page, which names the reason; HTTPS does not."""
    proxies = ["127.0.0.0/8"]
    async with (
        ScriptedUpstream() as upstream,
        stack(upstream.url, trusted_proxies=proxies) as proxy,
    ):
        origin = "Origin: http://sidecar.test"
        right = b"username=alice&password=pw-alice&rd=/x"
        answer = await proxy.ask(build("POST", "/auth/login", origin, FORM, body=right))
        assert answer.status == 303
        assert b"Secure" in answer.fields.one("set-cookie")
        back = await proxy.get("/x", HTML)  # without the cookie, which the browser dropped
        assert back.status == 302
        address = back.fields.one("location").decode()
        page = await proxy.get(address, HTML)
        assert NOTE in page.body
        encrypted = await proxy.get(address, HTML, "X-Forwarded-Proto: https")
        assert encrypted.status == 200
        assert NOTE not in encrypted.body
