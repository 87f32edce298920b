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
