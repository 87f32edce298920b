"""The headers that tell the upstream about the client.

X-Forwarded-*, Forwarded (RFC 7239) and Client-Cert (RFC 9440). Owns the rule of trust: a peer that
is not a trusted proxy is itself the client, whatever its headers say. Knows nothing of sockets.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING, Final

from sidecar.wire.client_address import client_of, is_among, named_client, parse_address
from sidecar.wire.target import is_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.wire.client_address import Network
    from sidecar.wire.head import RequestHead

# Quotes must be paired: an open quote in the elements before ours would swallow ours.
_UNQUOTED: Final = rb"[A-Za-z0-9!#$%&'*+.^_`|~=;,:\[\] \t-]*"
_FORWARDED: Final = re.compile(rb'%b(?:"%b"%b)*\Z' % (_UNQUOTED, _UNQUOTED, _UNQUOTED))
_NO_ADDRESSES: Final = re.compile(rb"[^0-9A-Za-z.:\[\], \t_-]")
_CERTIFICATE: Final = rb":[A-Za-z0-9+/]+={0,2}:"
_NODE: Final = re.compile(rb"[0-9A-Za-z.:\[\]_-]{1,100}\Z")  # one address that is safe to log
# RFC 9440 sections 2.2 and 2.3: exactly one certificate, and a list of them. If there were two
# certificates, the first might come from the client, and a proxy only appended to it.
_CERTIFICATE_HEADERS: Final = {
    b"client-cert": (re.compile(rb"%b\Z" % _CERTIFICATE), b"Client-Cert: %b\r\n"),
    b"client-cert-chain": (
        re.compile(rb"%b(?:, ?%b)*\Z" % (_CERTIFICATE, _CERTIFICATE)),
        b"Client-Cert-Chain: %b\r\n",
    ),
}


def is_trusted(address: str, networks: Sequence[Network]) -> bool:
    """Whether the peer's address is in one of the networks. False for a peer without an address."""
    return is_among(parse_address(address), networks)


class Forwarding:
    """Writes the forwarded headers of one client connection.

    `certificate` is the verified certificate of the peer in DER, or empty (RFC 9440). If the peer
    is a trusted proxy, that certificate identifies the proxy and is not forwarded; the certificate
    of the client, if any, is in the proxy's headers.
    """

    __slots__ = ("_address", "_block", "_certificate", "_host", "_node", "_scheme", "trusted")

    def __init__(
        self, address: str, scheme: str, *, trusted: bool, certificate: bytes = b""
    ) -> None:
        self._address = address.encode("latin-1") or b"unknown"
        self._scheme = scheme.encode("latin-1")
        # RFC 7239 section 6: an IPv6 address is quoted and in brackets.
        self._node = b'"[%b]"' % self._address if b":" in self._address else self._address
        self.trusted = trusted
        self._certificate = b""
        if certificate and not trusted:
            self._certificate = b"Client-Cert: :%b:\r\n" % b64encode(certificate)
        self._host: bytes | None = None
        self._block = b""

    def __repr__(self) -> str:
        return f"<Forwarding {self._address.decode()} trusted={self.trusted}>"

    def lines(self, head: RequestHead) -> bytes:
        """Return the header lines for a request, cached because Host rarely changes."""
        if self.trusted and head.forwarded is not None:
            return self._appended(head, head.forwarded)
        if head.host != self._host:
            self._host = head.host
            block = self._serialize(self._address, self._scheme, head.host, b"")
            self._block = block + self._certificate
        return self._block

    def scheme(self, head: RequestHead) -> bytes:
        """Return the client's scheme, `http` or `https`: as a trusted peer says or as seen here."""
        if self.trusted and head.forwarded is not None:
            scheme = head.forwarded.get(b"x-forwarded-proto", b"").lower()
            if scheme in {b"http", b"https"}:
                return scheme
        return self._scheme

    def _appended(self, head: RequestHead, received: dict[bytes, bytes]) -> bytes:
        addresses = _well_formed(received.get(b"x-forwarded-for", b""))
        addresses = addresses + b", " + self._address if addresses else self._address
        scheme = self.scheme(head)
        host = received.get(b"x-forwarded-host", b"")
        if not is_host(host):
            host = head.host
        before = received.get(b"forwarded", b"")
        before = before if _FORWARDED.match(before) else b""
        block = self._serialize(addresses, scheme, host, before)
        for name, (form, line) in _CERTIFICATE_HEADERS.items():
            value = received.get(name, b"")
            if form.match(value):
                block += line % value
        return block

    def _serialize(self, addresses: bytes, scheme: bytes, host: bytes, before: bytes) -> bytes:
        element = b"for=%b;proto=%b" % (self._node, scheme)
        if host:
            element += b';host="%b"' % host
        if before:
            element = before + b", " + element
        return (
            b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n"
            b"X-Forwarded-Host: %b\r\nForwarded: %b\r\n" % (addresses, scheme, host, element)
        )

    def client(self, head: RequestHead) -> str:
        """Return the client's address for logs: the first that a trusted peer names, or its own."""
        if self.trusted and head.forwarded is not None:
            first = head.forwarded.get(b"x-forwarded-for", b"").partition(b",")[0].strip()
            if _NODE.match(first):
                return first.decode("latin-1")
        return self._address.decode("latin-1")

    def caller(self, head: RequestHead, networks: Sequence[Network]) -> str:
        """Return whom limits apply to: the client that a trusted peer names, or the peer itself.

        `networks` are those of trusted proxies; see `wire.client_address`.
        """
        client = ""
        if self.trusted and head.forwarded is not None:
            client = named_client(head.forwarded.get(b"x-forwarded-for", b""), networks)
        address = self._address.decode("latin-1")
        return client or client_of(parse_address(address)) or address


def _well_formed(addresses: bytes) -> bytes:
    """The end of X-Forwarded-For, without malformed entries and what comes before them.

    They come from the client. The proxies appended the rest, which must not be lost with them: the
    client would then pass for the last proxy.
    """
    parts = _NO_ADDRESSES.split(addresses)
    return parts[0] if len(parts) == 1 else parts[-1].partition(b",")[2].strip(b" \t")
