"""What a proxy does with each header: pass it on, read it, or drop it (RFC 9110 section 7.6.1).

A header has an effect in its exact spelling only, apart from case; another spelling that an
application may fold to the same name is dropped. Knows nothing of connections, senders or values.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from sidecar.errors import Malformed, PeerError
from sidecar.wire.caller_line import CALLER_HEADER
from sidecar.wire.headers import fold, is_token

if TYPE_CHECKING:
    from collections.abc import Iterable


class HeaderKind(IntEnum):
    """What the parser does with a header."""

    PASS = 0  # end-to-end, and not used by the sidecar
    DROP = 1  # hop-by-hop, or only the sidecar may send it
    HOST = 2
    AUTHORIZATION = 3
    COOKIE = 4
    CONNECTION = 5
    CONTENT_LENGTH = 6
    TRANSFER_ENCODING = 7
    UPGRADE = 8
    EXPECT = 9
    ORIGIN = 10
    FETCH_SITE = 11
    REQUEST_ID = 12
    FORWARDED = 13  # information of a trusted peer about the client; dropped from other peers
    METHOD_OVERRIDE = 14  # asks the application to act on another method
    CACHE_CONTROL = 15  # of a response; passed on
    WEBSOCKET_KEY = 16  # of the request that opens a WebSocket; passed on
    CALLER = 17  # of the control plane's response; see `wire.caller_line`


HOP_BY_HOP: Final = frozenset(
    (
        *(b"keep-alive", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate"),
        *(b"te", b"http2-settings"),  # RFC 7540 section 3.2.1; obsolete, but still sent
    )
)

# An application that honours one of these would use another path than the one that was authorised.
PATH_OVERRIDES: Final = frozenset((b"x-original-url", b"x-rewrite-url", b"x-envoy-original-path"))

# An application that honours such a header acts on another method than that of the request line.
# The pattern is applied to a folded name without its hyphens. It covers X-HTTP-Method-Override,
# X-HTTP-Method, X-Method-Override, X-HTTP-Verb, _method and what else frameworks may invent.
_METHOD_OVERRIDES: Final = re.compile(
    rb".*(?:method|verb)override|x?(?:http|rest|override|request(?:ed)?)*(?:method|verb)"
)

# The forwarded headers that the sidecar reads. Those with a URI or a method come from proxies that
# call `/auth/verify` (X-Original-* from nginx); RFC 9440 defines those of the client's certificate.
# They are never passed on as received. Every other X-Forwarded-* header is always dropped: a list
# of forbidden headers would never be complete.
FORWARDED: Final = frozenset(
    (
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-real-ip",
        b"x-forwarded-uri",
        b"x-forwarded-method",
        b"x-original-uri",
        b"x-original-method",
        b"client-cert",
        b"client-cert-chain",
    )
)

# Only the sidecar and trusted proxies may use names with these prefixes, whether in use now or not:
# an application may still trust a header that was removed from the configuration. The second line
# has the non-standard names that proxies use for a client's certificate.
_RESERVED: Final = (
    *(b"x-forwarded-", b"x-auth-", b"client-cert-"),
    *(b"x-client-cert", b"x-ssl-client-", b"ssl-client-", b"x-amzn-mtls-"),
)

_REQUEST_KINDS: Final = {
    b"host": HeaderKind.HOST,
    b"authorization": HeaderKind.AUTHORIZATION,
    b"cookie": HeaderKind.COOKIE,
    b"connection": HeaderKind.CONNECTION,
    b"content-length": HeaderKind.CONTENT_LENGTH,
    b"transfer-encoding": HeaderKind.TRANSFER_ENCODING,
    b"upgrade": HeaderKind.UPGRADE,
    b"expect": HeaderKind.EXPECT,
    b"origin": HeaderKind.ORIGIN,
    b"sec-fetch-site": HeaderKind.FETCH_SITE,
    b"x-request-id": HeaderKind.REQUEST_ID,
    b"sec-websocket-key": HeaderKind.WEBSOCKET_KEY,
    **dict.fromkeys(HOP_BY_HOP | PATH_OVERRIDES, HeaderKind.DROP),
    **dict.fromkeys(FORWARDED, HeaderKind.FORWARDED),
}

_RESPONSE_KINDS: Final = {
    b"cache-control": HeaderKind.CACHE_CONTROL,
    b"connection": HeaderKind.CONNECTION,
    b"content-length": HeaderKind.CONTENT_LENGTH,
    b"transfer-encoding": HeaderKind.TRANSFER_ENCODING,
    b"upgrade": HeaderKind.UPGRADE,
    b"x-request-id": HeaderKind.DROP,  # a response gets the id of its request
    **dict.fromkeys(HOP_BY_HOP, HeaderKind.DROP),
}

_CONTROL_PLANE_KINDS: Final = {
    **_RESPONSE_KINDS,
    CALLER_HEADER.lower().encode(): HeaderKind.CALLER,
}

# RFC 9110 section 6.5.1: a trailer may not change how a message is framed, routed or authenticated.
_NOT_IN_TRAILERS: Final = frozenset(
    (
        b"set-cookie",
        b"trailer",
        b"content-encoding",
        b"content-type",
        b"content-range",
        b"cache-control",
        b"www-authenticate",
        b"via",
    )
)


class HeaderKinds:
    """Tells the kind of a header by its name; `FieldLines` remembers what it says."""

    __slots__ = ("_kinds", "_overrides", "_reserved")

    def __init__(
        self,
        kinds: dict[bytes, HeaderKind],
        dropped: Iterable[bytes] = (),
        reserved: tuple[bytes, ...] = (),
        overrides: re.Pattern[bytes] | None = None,
    ) -> None:
        self._overrides = overrides
        self._kinds = kinds | {fold(name): HeaderKind.DROP for name in dropped}
        self._reserved = reserved

    @classmethod
    def of_requests(cls, identity: Iterable[bytes]) -> HeaderKinds:
        """Return the kinds of request headers; `identity` names headers that are always dropped."""
        return cls(_REQUEST_KINDS, identity, _RESERVED, _METHOD_OVERRIDES)

    @classmethod
    def of_responses(cls) -> HeaderKinds:
        """Return the kinds of response headers."""
        return cls(_RESPONSE_KINDS)

    @classmethod
    def of_control_plane(cls) -> HeaderKinds:
        """Return the kinds of response headers of the control plane, which names the caller."""
        return cls(_CONTROL_PLANE_KINDS)

    def of(self, name: bytes) -> HeaderKind:
        """Return the kind of a header with this name, in any spelling.

        Raises PeerError(400) for a name that is not a token: an empty name, white space before the
        colon, or a folded line (RFC 9112 section 5).
        """
        if not is_token(name):
            raise PeerError(400, "malformed header name", Malformed.HEADER_NAME)
        folded = fold(name)
        kind = self._kinds.get(folded, HeaderKind.PASS)
        if kind is HeaderKind.PASS:
            if folded.startswith(self._reserved):
                return HeaderKind.DROP
            overrides = self._overrides
            if overrides is not None and overrides.fullmatch(folded.replace(b"-", b"")):
                return HeaderKind.METHOD_OVERRIDE
            return HeaderKind.PASS
        if kind is HeaderKind.CACHE_CONTROL:  # in another spelling it has no effect
            return kind if name.lower() == folded else HeaderKind.PASS
        # An application may take `Content_Length` for Content-Length, which the sidecar does not.
        return kind if name.lower() == folded else HeaderKind.DROP

    def allows_trailer(self, name: bytes) -> bool:
        """Whether a trailer field of this name may be passed on."""
        return self.of(name) is HeaderKind.PASS and fold(name) not in _NOT_IN_TRAILERS
