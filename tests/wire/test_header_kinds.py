"""The kinds of headers."""

from __future__ import annotations

import pytest

from sidecar.errors import PeerError
from sidecar.wire.header_kinds import HeaderKind, HeaderKinds


@pytest.mark.parametrize(
    ("name", "request_kind", "response_kind"),
    [
        pytest.param(b"Accept", HeaderKind.PASS, HeaderKind.PASS, id="any"),
        pytest.param(b"aCCept", HeaderKind.PASS, HeaderKind.PASS, id="any-case"),
        pytest.param(b"X_Y", HeaderKind.PASS, HeaderKind.PASS, id="any-underscore"),
        pytest.param(b"Host", HeaderKind.HOST, HeaderKind.PASS, id="host"),
        pytest.param(b"HOST", HeaderKind.HOST, HeaderKind.PASS, id="host-case"),
        pytest.param(b"Cookie", HeaderKind.COOKIE, HeaderKind.PASS, id="cookie"),
        pytest.param(b"Set-Cookie", HeaderKind.PASS, HeaderKind.PASS, id="set-cookie"),
        pytest.param(
            b"Content-Length", HeaderKind.CONTENT_LENGTH, HeaderKind.CONTENT_LENGTH, id="length"
        ),
        pytest.param(b"Content_Length", HeaderKind.DROP, HeaderKind.DROP, id="length-underscore"),
        pytest.param(
            b"Transfer_Encoding", HeaderKind.DROP, HeaderKind.DROP, id="coding-underscore"
        ),
        pytest.param(b"Connection", HeaderKind.CONNECTION, HeaderKind.CONNECTION, id="connection"),
        pytest.param(b"Keep-Alive", HeaderKind.DROP, HeaderKind.DROP, id="keep-alive"),
        pytest.param(b"KEEP_alive", HeaderKind.DROP, HeaderKind.DROP, id="keep-alive-underscore"),
        pytest.param(
            b"Proxy-Authenticate", HeaderKind.DROP, HeaderKind.DROP, id="proxy-authenticate"
        ),
        pytest.param(b"X-Request-Id", HeaderKind.REQUEST_ID, HeaderKind.DROP, id="request-id"),
        pytest.param(b"X_Request_Id", HeaderKind.DROP, HeaderKind.DROP, id="request-id-underscore"),
        pytest.param(b"X-Auth-User", HeaderKind.DROP, HeaderKind.PASS, id="identity"),
        pytest.param(b"x_AUTH-user", HeaderKind.DROP, HeaderKind.PASS, id="identity-underscore"),
        pytest.param(b"X-Real-IP", HeaderKind.FORWARDED, HeaderKind.PASS, id="real-ip"),
        pytest.param(b"Forwarded", HeaderKind.FORWARDED, HeaderKind.PASS, id="forwarded"),
        pytest.param(b"X-Forwarded-For", HeaderKind.FORWARDED, HeaderKind.PASS, id="forwarded-for"),
        pytest.param(
            b"X_Forwarded_For", HeaderKind.DROP, HeaderKind.PASS, id="forwarded-underscore"
        ),
        pytest.param(b"X-Forwarded-Uri", HeaderKind.FORWARDED, HeaderKind.PASS, id="forwarded-uri"),
        pytest.param(
            b"X-Forwarded_Uri", HeaderKind.DROP, HeaderKind.PASS, id="forwarded-uri-underscore"
        ),
        pytest.param(
            b"X-Forwarded-Server", HeaderKind.DROP, HeaderKind.PASS, id="forwarded-unknown"
        ),
        pytest.param(
            b"X_FORWARDED_new", HeaderKind.DROP, HeaderKind.PASS, id="forwarded-unknown-underscore"
        ),
        pytest.param(b"X-Original-URL", HeaderKind.DROP, HeaderKind.PASS, id="path-override"),
        pytest.param(b"X-Original-URI", HeaderKind.FORWARDED, HeaderKind.PASS, id="original-uri"),
    ],
)
def test_kinds(name: bytes, request_kind: HeaderKind, response_kind: HeaderKind) -> None:
    """Names are folded, but a header is read only in its exact spelling, regardless of case."""
    requests, responses = HeaderKinds.of_requests([b"X-Auth-User"]), HeaderKinds.of_responses()
    assert requests.of(name) is request_kind
    assert responses.of(name) is response_kind


@pytest.mark.parametrize("name", [b"", b" ", b"a b", b"a:", b"a\0", b"\xe9", b"a\n", b"a/b"])
def test_a_name_is_a_token(name: bytes) -> None:
    """A name that is not a token is refused (RFC 9110 section 5.6.2)."""
    with pytest.raises(PeerError):
        HeaderKinds.of_responses().of(name)
