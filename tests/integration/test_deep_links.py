"""A person who opens a deep link and signs in arrives exactly at that link."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import pytest

from tests.peers.raw_client import build
from tests.peers.stack import stack

if TYPE_CHECKING:
    from tests.peers.stack import Stack

NAVIGATION: Final = ("Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: none")
FORM: Final = ("Content-Type: application/x-www-form-urlencoded", "Origin: http://sidecar.test")
TARGETS: Final = (
    pytest.param("/deep?a=1&b=2&c=3", id="several-parameters"),
    pytest.param("/q?f[]=1&x=%C3%BC&y=a%2Bb", id="brackets-and-escapes"),
    pytest.param("/search?q=a|b", id="bar"),
    pytest.param('/explore?left={"ds":"x"}', id="json"),
    pytest.param("/q?expr=rate(x[5m])^2", id="caret"),
    pytest.param("/compose?body=line1%0Aline2", id="line-break"),
    pytest.param("/old?name=M%FCller", id="latin-1"),
    pytest.param("/s?q=C%3A%5Cdir", id="backslash"),
    pytest.param("/x?p=../up", id="dots"),
    pytest.param("/report?ids=" + "10000,10001," * 400, id="long"),
    pytest.param("/caf%C3%A9/{id}", id="path"),
)


async def sign_in(running: Stack, location: str, fragment: str = "") -> str:
    """Open the login page, send its form, and return the address of the answer."""
    page = await running.get(location, *NAVIGATION)
    assert page.status == 200
    match = re.search(r'name="rd" value="([^"]*)"', page.body.decode())
    assert match is not None
    target = html.unescape(match[1]) + fragment
    fields = urlencode({"username": "alice", "password": "pw-alice", "rd": target})
    answer = await running.ask(build("POST", "/auth/login", *FORM, body=fields.encode()))
    assert answer.status == 303
    return answer.fields.one("location").decode()


@pytest.mark.parametrize("target", TARGETS)
async def test_a_deep_link_survives_the_login(target: str) -> None:
    """Whatever the sidecar redirects from, the login leads back to, byte for byte."""
    async with stack("http://127.0.0.1:1") as running:  # nothing is forwarded
        asked = await running.get(target, *NAVIGATION)
        assert asked.status == 302
        location = asked.fields.one("location").decode()
        assert await sign_in(running, location) == target
        assert await sign_in(running, location, "#/users/1?tab=2") == target + "#/users/1?tab=2"


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/api/queues/%2F/orders", id="slash"),
        pytest.param("/shop;jsessionid=1A?a=;b", id="parameter"),
        pytest.param("/50%2541", id="escaped-escape"),
        pytest.param("/lib%2Fkey%2Erb", id="dot"),
    ],
)
async def test_escapes_survive_the_login(target: str) -> None:
    """A path whose escapes pass is a way back like any other."""
    routes = ({"path": "/*", "path_escapes": "pass"},)
    async with stack("http://127.0.0.1:1", routes=routes) as running:
        asked = await running.get(target, *NAVIGATION)
        assert asked.status == 302
        location = asked.fields.one("location").decode()
        assert await sign_in(running, location) == target


PREFIX: Final = (
    "X-Forwarded-Prefix: /shop/",
    "X-Forwarded-Proto: https, http",
    "X-Forwarded-Port: 8443",
)
PAGE: Final = (*NAVIGATION, *PREFIX)
POSTED: Final = (FORM[0], "Origin: https://sidecar.test:8443", *PREFIX)


async def test_below_a_prefix() -> None:
    """Every address that a person is led to begins with what the proxy removes from it."""
    async with stack("http://127.0.0.1:1", trusted_proxies=["127.0.0.1"]) as running:
        asked = await running.get("/deep?a", *PAGE)
        assert asked.fields.one("location") == b"/shop/auth/login?rd=/shop/deep?a"
        page = (await running.get("/auth/login?rd=/shop/deep?a", *PAGE)).body.decode()
        assert 'action="/shop/auth/login"' in page
        assert 'name="rd" value="/shop/deep?a"' in page
        body = b"username=alice&password=pw-alice"
        for rd, leads_to in (
            (b"", b"/shop/"),
            (b"&rd=/shop/deep?a", b"/shop/deep?a"),
            (b"&rd=https://sidecar.test:8443/x", b"https://sidecar.test:8443/x"),
            (b"&rd=https://sidecar.test/x", b"/shop/"),
        ):
            answer = await running.ask(build("POST", "/auth/login", *POSTED, body=body + rd))
            assert (answer.status, answer.fields.one("location")) == (303, leads_to)
        cookie = f"Cookie: {await running.cookie()}"
        signed_in = (await running.get("/auth/login", *PAGE, cookie)).body.decode()
        assert 'action="/shop/auth/logout"' in signed_in
        assert 'name="rd" value="/shop/auth/login?signed-out&amp;rd=/shop/"' in signed_in
        left = await running.ask(build("POST", "/auth/logout", *POSTED, cookie))
        assert (left.status, left.fields.one("location")) == (303, b"/shop/auth/login?signed-out")


async def test_the_pages_of_errors_below_a_prefix() -> None:
    """The button of an error page, of the proxy or of the control plane, leads below the prefix."""
    routes = ({"path": "/admin", "roles": ["nobody"]},)
    async with stack("http://127.0.0.1:1", routes=routes, trusted_proxies=["127.0.0.1"]) as running:
        cookie = f"Cookie: {await running.cookie()}"
        for path, status in (("/admin", 403), ("/auth/nothing", 404)):
            answer = await running.get(path, *PAGE, cookie)
            assert (answer.status, b'href="/shop/auth/login"' in answer.body) == (status, True)


async def test_a_stranger_has_no_prefix() -> None:
    """Without trust in the peer no address begins with what it says."""
    async with stack("http://127.0.0.1:1") as running:
        asked = await running.get("/deep", *PAGE)
        assert asked.fields.one("location") == b"/auth/login?rd=/deep"
        page = (await running.get("/auth/login", *PAGE)).body.decode()
        assert 'action="/auth/login"' in page
        assert "/shop" not in page
