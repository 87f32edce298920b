"""What the upstream is told about the client: X-Forwarded-*, Forwarded (RFC 7239), Client-Cert.

Owns the rule of trust: a peer that is not a trusted proxy is itself the client, whatever it says.
Knows nothing of sockets; one `Forwarding` serves one connection.
"""

from __future__ import annotations

import ipaddress
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Final

from sidecar.wire.target import is_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.wire.head import RequestHead

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Quotes come in pairs: what stands before our own element may not swallow it.
_UNQUOTED: Final = rb"[A-Za-z0-9!#$%&'*+.^_`|~=;,:\[\] \t-]*"
_FORWARDED: Final = re.compile(rb'%b(?:"%b"%b)*\Z' % (_UNQUOTED, _UNQUOTED, _UNQUOTED))
_ADDRESSES: Final = re.compile(rb"[0-9A-Fa-f.:\[\], \t_a-zA-Z-]*\Z")
_CERTIFICATE: Final = rb":[A-Za-z0-9+/]+={0,2}:"
_NODE: Final = re.compile(rb"[0-9A-Za-z.:\[\]_-]{1,100}\Z")  # one of them, as a log may hold it
# RFC 9440 sections 2.2 and 2.3: one certificate, and a list of them. Of two, the first may be the
# client's own word, which a proxy has only added to.
_TOLD: Final = {
    b"client-cert": (re.compile(rb"%b\Z" % _CERTIFICATE), b"Client-Cert: %b\r\n"),
    b"client-cert-chain": (
        re.compile(rb"%b(?:, ?%b)*\Z" % (_CERTIFICATE, _CERTIFICATE)),
        b"Client-Cert-Chain: %b\r\n",
    ),
}


def is_trusted(address: str, networks: Sequence[Network]) -> bool:
    """Whether the peer's address is in one of the networks; a peer without an address is not."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in network for network in networks)


class Forwarding:
    """The forwarded headers of one client connection.

    `certificate` is the one the client has shown, in DER, if it was found good (RFC 9440). That of
    a trusted proxy is the proxy's own, and it tells of its client's or of none.
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
        """The header lines for one request; the last are kept, as a connection keeps its Host."""
        if self.trusted and head.forwarded is not None:
            return self._appended(head, head.forwarded)
        if head.host != self._host:
            self._host = head.host
            block = self._serialize(self._address, self._scheme, head.host, b"")
            self._block = block + self._certificate
        return self._block

    def scheme(self, head: RequestHead) -> bytes:
        """What the client speaks: `http` or `https`, by a trusted peer's word or as seen here."""
        if self.trusted and head.forwarded is not None:
            said = head.forwarded.get(b"x-forwarded-proto", b"").lower()
            if said in {b"http", b"https"}:
                return said
        return self._scheme

    def _appended(self, head: RequestHead, said: dict[bytes, bytes]) -> bytes:
        addresses = said.get(b"x-forwarded-for", b"")
        if addresses and _ADDRESSES.match(addresses):
            addresses = addresses + b", " + self._address
        else:
            addresses = self._address
        scheme = self.scheme(head)
        host = said.get(b"x-forwarded-host", b"")
        if not is_host(host):
            host = head.host
        before = said.get(b"forwarded", b"")
        before = before if _FORWARDED.match(before) else b""
        block = self._serialize(addresses, scheme, host, before)
        for name, (form, line) in _TOLD.items():
            value = said.get(name, b"")
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
        """The client's address for logs: the first a trusted peer names, else the peer itself."""
        if self.trusted and head.forwarded is not None:
            first = head.forwarded.get(b"x-forwarded-for", b"").partition(b",")[0].strip()
            if _NODE.match(first):
                return first.decode("latin-1")
        return self._address.decode("latin-1")
