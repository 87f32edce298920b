"""Parsers set up as in a connection, and the means to compare heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from sidecar.wire.field_lines import FieldLines
from sidecar.wire.head import HEAD_END, HeadLimits
from sidecar.wire.header_kinds import HeaderKinds
from sidecar.wire.requests import RequestParser
from sidecar.wire.responses import ResponseParser
from sidecar.wire.target import TargetParser

if TYPE_CHECKING:
    from sidecar.wire.head import RequestHead, ResponseHead

IDENTITY: Final = (b"X-Auth-User", b"X-Auth-Subject")


class HeadMemory:
    """Lets every parser remember what it wants, and notes how much; `full`: lets it forget."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.told: list[int] = []

    def put(self, holder: RequestParser, octets: int) -> None:
        """Note the number of octets."""
        self.told.append(octets)
        if self.full:
            holder.give_up()


def request_fields() -> FieldLines:
    """Return a new cache of request lines, which all client connections of a process share."""
    return FieldLines(HeaderKinds.of_requests(IDENTITY))


def response_fields() -> FieldLines:
    """Return a new cache of response lines, which all upstream connections share."""
    return FieldLines(HeaderKinds.of_responses())


def request_parser(
    fields: FieldLines | None = None,
    paths: TargetParser | None = None,
    *,
    headers: int = 100,
    memory: HeadMemory | None = None,
) -> RequestParser:
    """Return the parser of a new client connection, by default with empty caches."""
    fields = request_fields() if fields is None else fields
    paths = TargetParser() if paths is None else paths
    memory = HeadMemory() if memory is None else memory
    return RequestParser(fields, paths, HeadLimits(headers=headers), memory)


def response_parser(fields: FieldLines | None = None, *, headers: int = 100) -> ResponseParser:
    """Return the parser of a new upstream connection, by default with empty caches."""
    fields = response_fields() if fields is None else fields
    return ResponseParser(fields, HeadLimits(headers=headers))


def raw_head(first: bytes, *lines: bytes) -> bytes:
    """Return a complete head: its first line, its header lines and the empty line."""
    return b"\r\n".join((first, *lines)) + HEAD_END


def read_request(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bool = True) -> RequestHead:
    """Parse a request on a new connection; `Host: h` is added unless `host` is false."""
    return request_parser().parse(raw_head(first, *((b"Host: h",) if host else ()), *lines))


def read_response(
    *lines: bytes, first: bytes = b"HTTP/1.1 200 OK", to_head: bool = False
) -> ResponseHead:
    """Parse a response on a new connection."""
    return response_parser().parse(raw_head(first, *lines), to_head=to_head)


def passed_on(head: RequestHead | ResponseHead) -> list[bytes]:
    """Return the header lines that are passed on."""
    return head.lines.split(b"\r\n")[:-1]


def content(head: RequestHead | ResponseHead) -> dict[str, Any]:
    """Return all attributes of a head, including the defaults."""
    names = [name for name in dir(head) if not name.startswith("_") and name != "copy"]
    return {name: getattr(head, name) for name in names}


# Lines that mean something, often enough together; and their spellings.
REQUEST_LINES: Final = (
    *(b"Host: h", b"host: other.example", b"Host:", b"HOST : h", b"Authorization: Bearer a.b.c"),
    *(b"Authorization: Basic eA==", b"Cookie: a=1", b"cookie: b=2", b"Content-Length: 0"),
    *(b"Content-Length: 5", b"content-length: 05", b"Content_Length: 7", b"Content-Length: x"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Transfer_Encoding: chunked"),
    *(b"Connection: close", b"Connection: keep-alive, X-A", b"Connection: Upgrade"),
    *(b"Connection: content-length", b"Connection: content_length", b"Connection: host"),
    *(b"Upgrade: websocket", b"Expect: 100-continue", b"Expect: x", b"Origin: https://h"),
    *(b"Origin: null", b"Sec-Fetch-Site: same-origin", b"X-Request-Id: abc", b"X-Request-Id: a b"),
    *(b"X-Forwarded-For: 192.0.2.7", b"X-Forwarded-Host: h", b"Forwarded: for=x", b"X-A: 1"),
    *(b"X_A: 2", b"X-Auth-User: eve", b"x_auth_user: eve", b"Keep-Alive: 5", b"TE: trailers"),
    *(b"Proxy-Authorization: Basic eA==", b"X-Original-Uri: /a", b" folded", b"no colon", b": x"),
    *(b"A: \x00", b"A: \xff\t ", b"A:b\rc", b"Accept: */*"),
)
RESPONSE_LINES: Final = (
    *(b"Content-Length: 0", b"Content-Length: 5", b"content-length: 05", b"Content-Length: -1"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Connection: close"),
    *(b"Connection: keep-alive", b"Connection: upgrade, X-A", b"Connection: content_length"),
    *(b"Upgrade: websocket", b"Keep-Alive: timeout=5", b"Set-Cookie: a=1", b"Set-Cookie: b=2"),
    *(b"X-A: 1", b"x_a: 2", b"X-Request-Id: theirs", b" folded", b"no colon", b"A: \x00", b"B:"),
    *(b"Server: x", b"Proxy-Authenticate: Basic", b"Trailer: X"),
)
FIRST_LINES: Final = (
    *(b"GET / HTTP/1.1", b"POST /a?b HTTP/1.1", b"HEAD /%41 HTTP/1.1", b"GET / HTTP/1.0"),
    *(b"PUT http://h/a HTTP/1.1", b"GET http://other.example HTTP/1.1", b"OPTIONS * HTTP/1.1"),
    *(b"GET /a/../b HTTP/1.1", b"GET /%2e HTTP/1.1", b"CONNECT h:443 HTTP/1.1", b"G@T / HTTP/1.1"),
    *(
        b"GET / HTTP/2.0",
        b"GET  / HTTP/1.1",
        b"GET /",
        b"",
        b"PURGE /x HTTP/1.1",
        b"GET * HTTP/1.1",
    ),
)
STATUS_LINES: Final = (
    *(b"HTTP/1.1 200 OK", b"HTTP/1.1 204 No Content", b"HTTP/1.0 200 OK", b"HTTP/1.1 304 "),
    *(b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 100", b"HTTP/1.1 500 caf\xe9", b"HTTP/2 200"),
    *(b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 200 a\x00b", b"ICY 200 OK", b""),
)


def heads(first: tuple[bytes, ...], lines: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Generate complete heads of known and arbitrary lines, cut at the first empty line."""
    octets = st.binary(max_size=30)
    field = st.one_of(st.sampled_from(lines), st.sampled_from(lines), octets)
    start = st.one_of(st.sampled_from(first), st.sampled_from(first), octets)
    whole = st.builds(lambda one, more: raw_head(one, *more), start, st.lists(field, max_size=6))
    return whole.map(lambda raw: raw[: raw.find(HEAD_END) + len(HEAD_END)])


request_heads: Final = heads(FIRST_LINES, REQUEST_LINES)
response_heads: Final = heads(STATUS_LINES, RESPONSE_LINES)
