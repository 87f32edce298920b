"""Requests of our own pages, recognised by Origin and Sec-Fetch-Site."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.auth.same_origin import changes_state, is_same_origin
from tests.auth.forge import request


@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        pytest.param({}, False, id="get"),
        pytest.param({"method": b"HEAD"}, False, id="head"),
        pytest.param({"method": b"OPTIONS"}, False, id="options"),
        pytest.param({"method": b"TRACE"}, False, id="trace"),
        pytest.param({"method": b"POST"}, True, id="post"),
        pytest.param({"method": b"DELETE"}, True, id="delete"),
        pytest.param({"method": b"PROPFIND"}, True, id="any-other"),
        pytest.param({"method": b"get"}, True, id="not-quite-get"),
        pytest.param({"upgrade": b"websocket"}, True, id="websocket"),
    ],
)
def test_changes_state(fields: dict[str, Any], changes: bool) -> None:  # noqa: FBT001
    """Only the safe methods change no state, unless they open a tunnel."""
    assert changes_state(request(**fields)) is changes


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        pytest.param({}, False, id="nothing-said"),
        pytest.param({"origin": b"https://shop.test"}, True, id="origin"),
        pytest.param({"origin": b"http://shop.test"}, True, id="origin-http"),
        pytest.param({"origin": b"https://SHOP.test", "host": b"shop.TEST"}, True, id="case"),
        pytest.param({"origin": b"https://shop.test:443"}, True, id="default-port-in-origin"),
        pytest.param(
            {"origin": b"https://shop.test", "host": b"shop.test:443"}, True, id="port-in-host"
        ),
        pytest.param({"origin": b"http://shop.test", "host": b"shop.test:80"}, True, id="port-80"),
        pytest.param(
            {"origin": b"http://shop.test:8080", "host": b"shop.test:8080"}, True, id="own-port"
        ),
        pytest.param({"origin": b"http://[::1]:8080", "host": b"[::1]:8080"}, True, id="ipv6"),
        pytest.param({"origin": b"http://shop.test:8080"}, False, id="other-port"),
        pytest.param(
            {"origin": b"http://shop.test", "host": b"shop.test:443"},
            False,
            id="port-of-other-scheme",
        ),
        pytest.param({"origin": b"https://evil.test"}, False, id="other-host"),
        pytest.param({"origin": b"https://shop.test.evil.test"}, False, id="suffix"),
        pytest.param({"origin": b"https://a.shop.test"}, False, id="subdomain"),
        pytest.param({"origin": b"https://evil.test@shop.test"}, False, id="user-information"),
        pytest.param({"origin": b"https://shop.test/"}, False, id="path"),
        pytest.param({"origin": b"https://shop.test https://evil.test"}, False, id="list"),
        pytest.param({"origin": b"null"}, False, id="null"),
        pytest.param({"origin": b""}, False, id="empty"),
        pytest.param({"origin": b"shop.test"}, False, id="no-scheme"),
        pytest.param({"origin": b"ws://shop.test"}, False, id="other-scheme"),
        pytest.param({"origin": b"https://", "host": b""}, False, id="no-host"),
        pytest.param({"origin": b"https://:443", "host": b""}, False, id="no-host-but-port"),
        pytest.param(
            {"origin": b"https://shop.test", "repeated": frozenset((b"origin",))}, False, id="twice"
        ),
        pytest.param({"fetch_site": b"same-origin"}, True, id="fetch-same-origin"),
        pytest.param({"fetch_site": b"none"}, True, id="fetch-none"),
        pytest.param({"fetch_site": b"same-site"}, False, id="fetch-same-site"),
        pytest.param({"fetch_site": b"cross-site"}, False, id="fetch-cross-site"),
        pytest.param({"fetch_site": b""}, False, id="fetch-empty"),
        pytest.param(
            {"fetch_site": b"same-origin", "origin": b"null"}, True, id="fetch-knows-better"
        ),
        pytest.param(
            {"fetch_site": b"cross-site", "origin": b"https://shop.test"}, False, id="fetch-decides"
        ),
    ],
)
def test_same_origin(fields: dict[str, Any], same: bool) -> None:  # noqa: FBT001
    """Sec-Fetch-Site decides; otherwise Origin must name this host; without both it is no."""
    assert is_same_origin(request(**fields)) is same
