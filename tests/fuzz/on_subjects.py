"""Subrequests: the original request is read from a single source and has one meaning.

Input: the part of the target after `/auth/verify`, then header lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from sidecar.auth.decision import Deny
from sidecar.auth.reason import Reason
from sidecar.auth.route_rule import Access, RouteRule
from sidecar.auth.routes import RouteTable
from sidecar.errors import PeerError
from sidecar.proxy import refusals, verify
from sidecar.wire.forwarded import Forwarding
from sidecar.wire.target import NormalisingTargetParser, TargetParser, is_host
from tests.fuzz.on_targets import OWN, check_path
from tests.wire.readers import content, raw_head, request_parser

if TYPE_CHECKING:
    from sidecar.proxy.verify import Dialect
    from sidecar.wire.head import RequestHead

ROUTES: Final = RouteTable(
    (
        RouteRule(path="/auth/*", name="ours", access=Access.PUBLIC, target="api"),
        RouteRule(path="/open/*", name="open", access=Access.PUBLIC),
        RouteRule(path="/hosted", name="hosted", hosts=["h.example"], access=Access.PUBLIC),
        RouteRule(path="/write", name="write", methods=["POST"]),
    )
)
ENDPOINT: Final = verify.VerifyEndpoint("/auth/verify")
TRUSTED: Final = Forwarding("192.0.2.1", "http", trusted=True)
STRANGER: Final = Forwarding("192.0.2.2", "http", trusted=False)
_LIMIT: Final = 1 << 20  # far above any head here


def check(data: bytes) -> None:
    """Compare what a trusted proxy and a stranger get, with path normalization and without."""
    rest, *lines = data.split(b"\n")[:20]
    raw = raw_head(b"GET /auth/verify%b HTTP/1.1" % rest, *lines)
    if raw.index(b"\r\n\r\n") != len(raw) - 4:
        return  # two heads
    head, same = read(raw, TargetParser()), read(raw, NormalisingTargetParser(OWN))
    if head is None or same is None:
        assert head is same
        return
    assert content(head) == content(same), "the head of a subrequest was normalised"
    dialect = ENDPOINT.find_dialect(head)
    if dialect is None:
        return
    before = content(head)
    strange = verify.read_subject(dialect, head, ROUTES, STRANGER)
    told = verify.read_subject(dialect, head, ROUTES, TRUSTED)
    assert content(head) == before
    if told == (ROUTES.default, None):
        assert strange == told, "a stranger may ask only about credentials"
        return
    assert strange == Deny(Reason.PROXY_UNTRUSTED, None)
    if isinstance(told, Deny):
        assert told.reason is Reason.TARGET_MALFORMED
        return
    route, original = told
    assert original is not None
    check_original(dialect, head, original, lines)
    matched = ROUTES.match(original.method, original.host, original.path)
    assert route is (matched if matched.target == "upstream" else ROUTES.default)


def read(raw: bytes, paths: TargetParser) -> RequestHead | None:
    """The subrequest's head, or None if it is refused."""
    try:
        return request_parser(paths=paths).parse(raw)
    except PeerError:
        return None


def check_original(
    dialect: Dialect, head: RequestHead, original: RequestHead, lines: list[bytes]
) -> None:
    """Check the original request against its single header and the subrequest's credentials."""
    hosts = said(lines, b"x-forwarded-host") or [head.host]
    if dialect.uri:
        assert said(lines, dialect.uri) == [original.target]
        methods = said(lines, dialect.method) or [dialect.default_method]
        assert (methods, hosts) == ([original.method], [original.host])
    else:
        assert head.target == dialect.prefix.encode() + original.target
        assert (original.method, original.host) == (head.method, head.host)
    assert original.method == original.method.upper()
    assert is_host(original.host)
    assert TargetParser().parse(original.target) == original.path
    check_path(original.target, original.path)
    assert (original.authorization, original.cookie) == (head.authorization, head.cookie)
    line = refusals.login_location(b"/auth/login", original, _LIMIT).removeprefix(b"Location: ")
    assert line.count(b"\n") == 1
    query = urlsplit(line.removesuffix(b"\r\n").decode("ascii")).query
    assert parse_qs(query) == {"rd": [original.target.decode("ascii")]}


def said(lines: list[bytes], name: bytes) -> list[bytes]:
    """The values of this header, one for each of its lines."""
    fields = (line.partition(b":") for line in lines)
    return [value.strip(b" \t") for field, _, value in fields if field.lower() == name]
