"""The headers that tell the upstream about the client.

X-Forwarded-*, X-Real-IP, Forwarded (RFC 7239) and Client-Cert (RFC 9440). Owns the rule of trust: a
peer that is not a trusted proxy is itself the client, whatever its headers say. Knows no sockets.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING, Final

from sidecar.wire.client_address import (
    NOBODY,
    NamedClients,
    client_of,
    is_among,
    parse_address,
)
from sidecar.wire.forwarded_elements import elements_of, is_plain_list, parse_elements
from sidecar.wire.target import is_host

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.wire.client_address import Named, Network
    from sidecar.wire.forwarded_elements import Element
    from sidecar.wire.head import RequestHead

_NO_ADDRESSES: Final = re.compile(rb"[^0-9A-Za-z.:\[\], \t_-]")
_CERTIFICATE: Final = rb":[A-Za-z0-9+/]+={0,2}:"
# A proxy that sends one of these seldom writes Forwarded as well, so that it may be the client's.
_OTHERS: Final = frozenset(
    (
        *(b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"),
        *(b"x-forwarded-port", b"x-forwarded-prefix", b"x-real-ip"),
    )
)
# Some proxies name the scheme of a WebSocket (RFC 6455 section 3).
_SCHEMES: Final = {b"http": b"http", b"https": b"https", b"ws": b"http", b"wss": b"https"}
_DEFAULT_PORTS: Final = frozenset((b"80", b"443"))
_PORT: Final = re.compile(rb"[1-9][0-9]{0,4}")
# A path that no reader takes for another, or for another host
_PREFIX: Final = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~!$&'()*+=:@-]+)*/?")
_LONGEST_PREFIX: Final = 256  # octets
_BASIC: Final = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"))
_USUAL: Final = _BASIC | {b"forwarded"}
_USUAL_LINES: Final = b", %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\nForwarded: "
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
    of the client, if any, is in the proxy's headers. `clients` knows the other trusted proxies.

    Of a list, the first value is the client's. Forwarded counts only if the proxy sends no other
    header of this kind; then the client's element is the one of the outermost trusted proxy, and
    elements before it are dropped. Beside other headers it is kept if it says the same, and written
    anew otherwise. So the application and the sidecar use the same values.
    """

    __slots__ = (
        *("_address", "_block", "_certificate", "_clients", "_element", "_host", "_node"),
        *("_scheme", "_told_host", "_told_of", "_told_proto", "_usual"),
        "trusted",
    )

    def __init__(
        self,
        address: str,
        scheme: str,
        *,
        trusted: bool,
        certificate: bytes = b"",
        clients: NamedClients | None = None,
    ) -> None:
        self._address = address.encode("latin-1") or b"unknown"
        self._scheme = scheme.encode("latin-1")
        # RFC 7239 section 6: an IPv6 address is quoted and in brackets.
        self._node = b'"[%b]"' % self._address if b":" in self._address else self._address
        self.trusted = trusted
        self._clients = NamedClients() if clients is None else clients
        self._certificate = b""
        if certificate and not trusted:
            self._certificate = b"Client-Cert: :%b:\r\n" % b64encode(certificate)
        self._host: bytes | None = None
        self._block = b""
        # What a trusted peer told last about scheme and host, and in a request for which host
        self._told_proto = self._told_host = b""
        self._told_of: bytes | None = None
        self._usual = self._element = b""  # what is made of that

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

    def origin(self, head: RequestHead) -> bytes:
        """Return the origin that the client has asked, `https://host:port`."""
        told = self._told(head)
        host = with_port(_host_of(told, head).decode("latin-1"), _port_of(told).decode("latin-1"))
        return b"%b://%b" % (self._scheme_of(told), host.encode("latin-1"))

    def prefix(self, head: RequestHead) -> bytes:
        """Return what trusted proxies have removed from the start of the path; empty if nothing."""
        return _prefix_of(self._told(head))

    def named(self, head: RequestHead) -> Named:
        """Return the client that a trusted peer names, or nobody."""
        received = head.forwarded
        if received is None or not self.trusted:
            return NOBODY
        told = received if b"x-forwarded-for" in received else self._told(head)
        return self._clients[told.get(b"x-forwarded-for", b"")]

    def client(self, head: RequestHead) -> str:
        """Return the client's address for logs: of the one that limits apply to."""
        return self.named(head).address or self._address.decode("latin-1")

    def caller(self, head: RequestHead) -> str:
        """Return whom limits apply to: the client that a trusted peer names, or the peer itself."""
        address = self._address.decode("latin-1")
        return self.named(head).client or client_of(parse_address(address)) or address

    def _told(self, head: RequestHead) -> Mapping[bytes, bytes]:
        """Return what a trusted peer tells, by names in lower case; nothing of other peers."""
        if head.forwarded is None or not self.trusted:
            return {}
        received = head.forwarded
        if b"forwarded" not in received:
            return received
        told = {name: value for name, value in received.items() if name != b"forwarded"}
        elements = parse_elements(received[b"forwarded"])
        nodes = b", ".join(element.node for element in elements)
        if not _OTHERS.isdisjoint(received):
            if nodes == told.get(b"x-forwarded-for") and self._agree(elements, told, head):
                told[b"forwarded"] = b", ".join(element.text for element in elements)
            return told
        elements = elements[-self._clients.hops(nodes) :]
        if elements:
            told[b"forwarded"] = b", ".join(element.text for element in elements)
            told[b"x-forwarded-for"] = b", ".join(element.node for element in elements)
            told[b"x-forwarded-proto"] = elements[0].proto
            told[b"x-forwarded-host"] = elements[0].host
        return told

    def _agree(
        self, elements: Sequence[Element], told: Mapping[bytes, bytes], head: RequestHead
    ) -> bool:
        """Whether all elements say what the other headers say; readers differ in which they use."""
        scheme, host = self._scheme_of(told), _host_of(told, head)
        return all(
            _SCHEMES.get(element.proto.lower(), element.proto) in {b"", scheme}
            and element.host in {b"", host}
            for element in elements
        )

    def _scheme_of(self, told: Mapping[bytes, bytes]) -> bytes:
        value = told.get(b"x-forwarded-proto", b"")
        return _SCHEMES.get(value) or _SCHEMES.get(_first(value).lower(), self._scheme)

    def _appended(self, head: RequestHead, received: Mapping[bytes, bytes]) -> bytes:
        addresses = received.get(b"x-forwarded-for")
        if addresses is not None and b"forwarded" not in received and is_plain_list(addresses):
            block = self._appended_to_plain(head, received, addresses)
            return block if _BASIC.issuperset(received) else block + self._unusual(received)
        if b"forwarded" in received:
            received = self._told(head)
        named = _well_formed(received.get(b"x-forwarded-for", b""))
        addresses = named + b", " + self._address if named else self._address
        before = received.get(b"forwarded") or elements_of(named)
        scheme, host = self._scheme_of(received), _host_of(received, head)
        block = self._serialize(addresses, scheme, host, before)
        return block if _USUAL.issuperset(received) else block + self._unusual(received)

    def _appended_to_plain(
        self, head: RequestHead, told: Mapping[bytes, bytes], addresses: bytes
    ) -> bytes:
        """Do the same for what most proxies send: addresses, scheme and host, without Forwarded.

        Only the addresses change often, so the rest is made once and kept.
        """
        proto, host = told.get(b"x-forwarded-proto", b""), told.get(b"x-forwarded-host", b"")
        if proto != self._told_proto or host != self._told_host or head.host != self._told_of:
            self._told_proto, self._told_host, self._told_of = proto, host, head.host
            scheme, valid = self._scheme_of(told), _host_of(told, head)
            self._usual = _USUAL_LINES % (self._address, scheme, valid)
            self._element = b", %b\r\n" % self._element_of(scheme, valid)
        elements = b"for=" + addresses.replace(b", ", b", for=")
        return b"".join((b"X-Forwarded-For: ", addresses, self._usual, elements, self._element))

    def _unusual(self, told: Mapping[bytes, bytes]) -> bytes:
        """Return the lines of headers that few proxies send, and that are passed on if valid."""
        block = b""
        if b"x-forwarded-port" in told and (port := _port_of(told)):
            block += b"X-Forwarded-Port: %b\r\n" % port
        if b"x-forwarded-prefix" in told and (prefix := _prefix_of(told)):
            block += b"X-Forwarded-Prefix: %b\r\n" % prefix
        address = told.get(b"x-real-ip", b",")
        if b"," not in address and (named := self._clients[address].address):
            block += b"X-Real-IP: %b\r\n" % named.encode("latin-1")
        for name, (form, line) in _CERTIFICATE_HEADERS.items():
            if name in told and form.match(told[name]):
                block += line % told[name]
        return block

    def _serialize(self, addresses: bytes, scheme: bytes, host: bytes, before: bytes) -> bytes:
        element = self._element_of(scheme, host)
        if before:
            element = before + b", " + element
        return (
            b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n"
            b"X-Forwarded-Host: %b\r\nForwarded: %b\r\n" % (addresses, scheme, host, element)
        )

    def _element_of(self, scheme: bytes, host: bytes) -> bytes:
        told = b';proto=%b;host="%b"' % (scheme, host) if host else b";proto=" + scheme
        return b"for=%b%b" % (self._node, told)


def with_port(host: str, port: str) -> str:
    """Return the authority of the client's request, from X-Forwarded-Host and X-Forwarded-Port.

    A port in `host` counts. Port 80 or 443 is that of the scheme; if it is the other scheme's, it
    is the port of a proxy that has not seen the client's scheme.
    """
    named = ":" in host.rpartition("]")[2]
    return host if named or not port or port.encode() in _DEFAULT_PORTS else f"{host}:{port}"


def _first(value: bytes) -> bytes:
    return value.partition(b",")[0].strip(b" \t")


def _host_of(told: Mapping[bytes, bytes], head: RequestHead) -> bytes:
    host = told.get(b"x-forwarded-host")
    if host is None:
        return head.host
    if b"," in host:
        host = _first(host)
    return host if is_host(host) else head.host


def _port_of(told: Mapping[bytes, bytes]) -> bytes:
    port = _first(told.get(b"x-forwarded-port", b""))
    return port if _PORT.fullmatch(port) and int(port) < 65536 else b""


def _prefix_of(told: Mapping[bytes, bytes]) -> bytes:
    """Return the prefix, without a final slash; of a list, all parts one after the other.

    Each proxy appends what it removes itself, so that the client's path begins with the first.
    """
    value = told.get(b"x-forwarded-prefix", b"")
    if not value or len(value) > _LONGEST_PREFIX:
        return b""
    parts = [part.strip(b" \t") for part in value.split(b",")]
    if not all(_PREFIX.fullmatch(part) for part in parts):
        return b""
    return b"".join(part.rstrip(b"/") for part in parts)


def _well_formed(addresses: bytes) -> bytes:
    """The end of X-Forwarded-For, without malformed entries and what comes before them.

    They come from the client. The proxies appended the rest, which must not be lost with them: the
    client would then pass for the last proxy.
    """
    parts = _NO_ADDRESSES.split(addresses)
    return parts[0] if len(parts) == 1 else parts[-1].partition(b",")[2].strip(b" \t")
