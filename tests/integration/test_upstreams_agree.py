"""Every upstream sees an unusual request as the sidecar decided on it, or refuses it.

What a strict recorder gets is compared with the sidecar's own parser, then with what nginx,
HAProxy, Caddy and aiohttp report, with and without path normalisation. A plain request after each
unusual one shows that nothing of it was left in the connection.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import pytest

from sidecar.app.build.components import make_paths
from sidecar.errors import PeerError
from sidecar.wire.head import HEAD_END, RequestHead
from sidecar.wire.target import TargetParser
from tests.peers import echoing
from tests.peers.echoing import Saw, saw
from tests.peers.raw_client import build
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import stack
from tests.wire.readers import request_parser

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.peers.stack import Stack

    Start = Callable[[], AbstractAsyncContextManager[str]]

ASTERISK: Final = b"OPTIONS * "  # has no path (RFC 9110 section 7.1)
TOKEN: Final = b"\r\n<token>"  # placeholder for the Authorization line


def odd(first: str, *lines: str, host: str | None = "h", body: bytes = b"") -> bytes:
    """Build a request from its method and target, its header lines and its body."""
    version = "" if " HTTP/" in first else " HTTP/1.1"
    fields = [] if host is None else [f"Host: {host}"]
    head = "\r\n".join((first + version, *fields, *lines)).encode("latin-1")
    return head + TOKEN + HEAD_END + body


CHUNKED: Final = "Transfer-Encoding: chunked"
HELLO: Final = b"5\r\nhello\r\n0\r\n\r\n"
PATHS: Final = (
    *("/a%20b", "/caf%C3%A9?x=%2e%2e/%00", "/a/", "/a//b", "/a/../b", "/a/%2e%2e/b", "/a/.%2e/b"),
    *("/a/.../b", "/.a/b.", "/a%2fb", "/a%5cb", "/a\\b", "/a;b=c/d", "/a%3bb", "/a%25zz"),
    *("/a%2541", "/a%25", "/a+b@c:d,e=f&g!$'()*~", '/a"<b>^`{|}', "/[a]", "/a%C2%85b%E2%80%8B"),
    *("/a?b?c//../%2e%2e/&d;e\\f|g", "/a?http://other/b", "/http://other/b", "/http:/other/b"),
    *("/a?b#c", "/%20", "/%7F", "/a%0Ab", "/%F0%9F%98%80", "/%C0%AE%C0%AE/", "/a?", "/?/../b"),
    *("/a/..", "/a/b/../..", "/a/.", "/./a", "/../a", "/a/../../b", "//", "//a///b//", "/a//../b"),
    *("/a/.%2E//b/?c=/../d", "/a%2eb/%7E%41", "/%2e", "/a/%2e%2e%2fb", "/a%2fb/../c", "/a;b/../c"),
    *("/caf%c3%a9/../%c3%a9/%e2%82%ac", "/a/..//%3f/%23", "/x/../auth/login", "/auth/../x"),
)
RESOLVED: Final = ("/a//b", "/a/../b", "/a/%2e%2e/b", "/a/..", "/a//../b", "/a%2eb/%7E%41")
REQUESTS: Final = (
    *(odd(f"GET {path}") for path in PATHS),
    odd("GET http://h/abs?x"),
    odd("GET http://h/abs/..//x/%2E?y/.."),
    odd("GET http://h"),
    odd("GET HTTP://H:80/abs", host="h:80"),
    odd("GET http://other/abs"),
    odd("GET http://h/abs HTTP/1.0", host=None),
    odd("GET /old HTTP/1.0", host=None),
    odd("GET /old HTTP/1.0", "Connection: keep-alive"),
    odd("POST /old HTTP/1.0", "Content-Length: 5", body=b"hello"),
    odd("OPTIONS *"),
    odd("OPTIONS /a", host="[2001:db8::1]:80"),
    odd("HEAD /head"),
    odd("PURGE /method"),
    odd("M-SEARCH /method"),
    *(
        odd("GET /host", host=host)
        for host in ("H.Example", "a,b", "h:", "h:99999", "h..", "[::ffff:1.2.3.4]", "[:::::]")
    ),
    odd("GET /host", "Host: h"),
    odd("GET /user", "X-Auth-User: eve", "X_Auth_User: eve"),
    odd("GET /user", "Connection: X-Auth-User, Host"),
    odd("GET /user", "X.Auth-User: eve", "x-auth-user:eve"),
    odd("GET /lines", "A:", "B: \xff\xfe", "C!#$%&'*+.^_`|~: 1", host="\th "),
    odd("GET /lines", "Expect: 100-continue"),
    odd("GET /lines", "X-HTTP-Method-Override: DELETE", "X-Original-URL: /x"),
    odd("GET /h2c", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA"),
    odd("POST /length", "Content-Length: 5", body=b"hello"),
    odd("POST /length", "Content-Length: 0005", body=b"hello"),
    odd("POST /length", "Content-Length: 0"),
    odd("GET /length", "Content-Length: 5", body=b"hello"),
    odd("DELETE /length", "Content-Length: 5", body=b"hello"),
    odd("POST /none"),
    odd("POST /chunks", CHUNKED, body=HELLO),
    odd("GET /chunks", CHUNKED, body=HELLO),
    odd(
        "POST /chunks", CHUNKED, body=b'0A;a="b"\r\n0123456789\r\n000;x\r\nX-Auth-User: eve\r\n\r\n'
    ),
    odd("POST /chunks", CHUNKED.upper(), body=b"0\r\nContent-Length: 50\r\n\r\n"),
    odd("POST /both", "Content-Length: 4", "Transfer_Encoding: chunked", body=b"0\r\n\n"),
    odd("POST /both", "Content_Length: 40", "Content-Length: 5", body=b"hello"),
    odd("POST /both", "Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"),
    odd("POST /expect", "Content-Length: 5", "Expect: 100-continue", body=b"hello"),
    odd("POST /gzip", "Content-Length: 5", "Content-Encoding: gzip", body=b"hello"),
    odd(
        "POST /ws", "Connection: Upgrade", "Upgrade: websocket", "Content-Length: 5", body=b"hello"
    ),
)
LUA: Final = echoing.MODULES / "ngx_http_lua_module.so"

every_upstream = pytest.mark.parametrize(
    "start",
    [
        pytest.param(echoing.nginx, id="nginx", marks=pytest.mark.needs("nginx")),
        pytest.param(echoing.haproxy, id="haproxy", marks=pytest.mark.needs("haproxy")),
        pytest.param(echoing.caddy, id="caddy", marks=pytest.mark.needs("caddy")),
        pytest.param(echoing.aiohttp, id="aiohttp"),
    ],
)


def decided(request: bytes, paths: TargetParser) -> RequestHead | None:
    """Return the head as the sidecar parses it, or None if it refuses the request."""
    try:
        return request_parser(paths=paths).parse(request[: request.index(HEAD_END) + len(HEAD_END)])
    except PeerError:
        return None


async def ask(sidecar: Stack, request: bytes, token: str) -> tuple[int, Saw | None]:
    """Return the answer's status and what the upstream saw of the request."""
    bearer = b"\r\nAuthorization: Bearer %b" % token.encode()
    answer = await sidecar.ask(request.replace(TOKEN, bearer))
    return answer.status, saw(answer)


async def recorded(ambiguous: str) -> dict[bytes, Saw]:
    """Return what the strict recorder got of each request that was forwarded."""
    found: dict[bytes, Saw] = {}
    async with (
        ScriptedUpstream() as upstream,
        stack(upstream.url, paths_ambiguous=ambiguous) as sidecar,
    ):
        token = (await sidecar.login()).access
        paths = make_paths(sidecar.settings)
        for request in REQUESTS:
            before = len(upstream.requests)
            status, _ = await ask(sidecar, request, token)
            head = decided(request.replace(TOKEN, b""), paths)
            if head is None:
                assert status in {400, 405, 501}, request
                assert len(upstream.requests) == before, request
                continue
            assert status == 200, request
            (got,) = upstream.requests[before:]
            assert got.method == head.method
            assert got.target == head.target
            assert got.fields.one("host") == head.host
            if not request.startswith(ASTERISK):
                assert TargetParser().parse(got.target) == head.path
            path = unquote_to_bytes(got.target.partition(b"?")[0])
            assert path.decode() == head.path
            user = got.fields.one("x-auth-user")
            assert user == b"alice"
            found[request] = Saw(got.method, path, head.host, user, len(got.body))
    return found


@pytest.mark.parametrize(
    "ambiguous", [pytest.param("reject", id="reject"), pytest.param("normalise", id="normalise")]
)
@every_upstream
async def test_upstreams_agree(start: Start, ambiguous: str) -> None:
    """Upstreams see the recorded method, path, host, user and body length, or refuse.

    A normalised path is what the upstream sees, whatever it would itself do with the original.
    """
    if start is echoing.nginx and not LUA.exists():
        pytest.skip(f"{LUA} is missing")
    expected = await recorded(ambiguous)
    assert {odd(f"GET {path}") in expected for path in RESOLVED} == {ambiguous == "normalise"}
    refused = []
    async with start() as url, stack(url, paths_ambiguous=ambiguous) as sidecar:
        token = (await sidecar.login()).access
        for number, request in enumerate(expected):
            status, seen = await ask(sidecar, request, token)
            if seen is None:
                # Go answers `OPTIONS *` itself, because it is about the server and not about a
                # resource.
                assert 400 <= status < 600 or request.startswith(ASTERISK), request
                refused.append(request.split(TOKEN)[0])
            elif request.startswith(ASTERISK) and not seen.path:
                assert replace(seen, path=b"*") == expected[request], request
            else:
                assert seen == expected[request], request
            answer = await sidecar.ask(build("GET", f"/after/{number}", token=token))
            after = saw(answer)
            assert after is not None, request
            assert after.path == b"/after/%d" % number, request
    # A server that refused everything would never disagree.
    assert len(refused) < len(expected) // 4, refused
