"""Forwarded headers: whatever a client or proxy sends, the sidecar's element is last and whole.

Input: lines for Host, X-Forwarded-For, -Proto, -Host, Forwarded, X-Forwarded-Port, -Prefix and
X-Real-IP, with octets allowed in fields.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from itertools import zip_longest
from typing import Final
from urllib.parse import urlsplit

from sidecar.wire.client_address import NamedClients
from sidecar.wire.forwarded import Forwarding
from sidecar.wire.forwarded_elements import parse_elements
from sidecar.wire.head import RequestHead
from sidecar.wire.target import TargetParser, is_host

NAMES: Final = (
    *(b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"),
    *(b"x-forwarded-port", b"x-forwarded-prefix", b"x-real-ip"),
)
CLIENTS: Final = NamedClients([ipaddress.ip_network("10.0.0.0/8")])
_ALWAYS: Final = [b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Forwarded"]
ADDRESSES: Final = ("192.0.2.1", "2001:db8::1", "")
_OCTETS: Final = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")
_ORIGIN: Final = re.compile(rb"https?://[^/?#@\\\s]+")
_LONGEST_LIST: Final = 32
# RFC 7239 section 4, read strictly: outside quotes, a comma ends an element.
_ELEMENT: Final = re.compile(rb'(?:[^",]|"[^"]*")*')


def check(data: bytes) -> None:
    """Check the headers for an untrusted peer and for a trusted proxy."""
    host, *values = (
        _OCTETS.sub(b"", line).strip(b" \t") for line in data.split(b"\n")[: len(NAMES) + 1]
    )
    head = RequestHead()
    head.host = host if is_host(host) else b"h"
    said = {
        name: value for name, value in zip_longest(NAMES, values[: len(NAMES)]) if value and name
    }
    for address in ADDRESSES:
        node = address.encode() or b"unknown"
        head.forwarded = said or None
        plain = Forwarding(address, "http", trusted=False)
        assert plain.lines(head) == Forwarding(address, "http", trusted=True).lines(bare(head))
        assert plain.client(head).encode() == node
        assert (plain.origin(head), plain.prefix(head)) == (b"http://" + head.host, b"")
        trusted = Forwarding(address, "https", trusted=True, clients=CLIENTS)
        check_lines(trusted.lines(head), node)
        client = trusted.client(head)
        assert client == (address or "unknown") or ipaddress.ip_address(client)
        assert _ORIGIN.fullmatch(trusted.origin(head))
        check_prefix(trusted.prefix(head))


def bare(head: RequestHead) -> RequestHead:
    """The same request without any forwarded headers."""
    other = RequestHead()
    other.host = head.host
    return other


def check_prefix(prefix: bytes) -> None:
    """Check that a prefix leads to no other host, and that all readers see the same path."""
    if prefix:
        path = (prefix + b"/auth/login").decode("ascii")
        assert urlsplit(path) == ("", "", path, "", "")
        assert TargetParser().parse(prefix + b"/auth/login") == path == posixpath.normpath(path)


def check_lines(lines: bytes, node: bytes) -> None:
    """Check that each header has one line and that the peer is last in each list."""
    found = dict(line.split(b": ", 1) for line in lines.split(b"\r\n")[:-1])
    assert list(found)[:4] == _ALWAYS
    assert set(list(found)[4:]) <= {b"X-Forwarded-Port", b"X-Forwarded-Prefix", b"X-Real-IP"}
    assert lines.count(b"\n") == len(found)
    assert found[b"X-Forwarded-For"].split(b",")[-1].strip() == node
    assert found[b"X-Forwarded-Proto"] in {b"http", b"https"}
    assert is_host(found[b"X-Forwarded-Host"])
    assert 0 < int(found.get(b"X-Forwarded-Port", b"1")) < 65536
    assert ipaddress.ip_address(found.get(b"X-Real-IP", b"::1").decode())
    check_prefix(found.get(b"X-Forwarded-Prefix", b""))
    elements = _ELEMENT.findall(found[b"Forwarded"])
    last = [each for each in elements if each][-1].strip()
    assert last.startswith(b'for="[%b]";' % node if b":" in node else b"for=%b;" % node), last
    assert last.endswith(b'"')
    # Both headers name the same hops, and the sidecar reads its own element again.
    parsed = parse_elements(found[b"Forwarded"])
    addresses = found[b"X-Forwarded-For"].split(b",")
    assert len(parsed) == len(addresses) or len(addresses) > _LONGEST_LIST
