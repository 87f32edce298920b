"""Forwarded headers: whatever a client or proxy sends, the sidecar's element is last and whole.

Input: lines for Host, X-Forwarded-For, -Proto, -Host and Forwarded, with octets allowed in fields.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Final

from sidecar.wire.forwarded import Forwarding
from sidecar.wire.head import RequestHead
from sidecar.wire.target import is_host

NAMES: Final = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded")
ADDRESSES: Final = ("192.0.2.1", "2001:db8::1", "")
_OCTETS: Final = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")
# RFC 7239 section 4, read strictly: outside quotes, a comma ends an element.
_ELEMENT: Final = re.compile(rb'(?:[^",]|"[^"]*")*')


def check(data: bytes) -> None:
    """Check the headers for an untrusted peer and for a trusted proxy."""
    host, *values = (_OCTETS.sub(b"", line).strip(b" \t") for line in data.split(b"\n")[:5])
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
        trusted = Forwarding(address, "https", trusted=True)
        check_lines(trusted.lines(head), node)
        assert trusted.client(head).isprintable()


def bare(head: RequestHead) -> RequestHead:
    """The same request without any forwarded headers."""
    other = RequestHead()
    other.host = head.host
    return other


def check_lines(lines: bytes, node: bytes) -> None:
    """Check that there are four lines and that the peer is last in each list."""
    found = dict(line.split(b": ", 1) for line in lines.split(b"\r\n")[:-1])
    assert list(found) == [
        *(b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Forwarded")
    ]
    assert lines.count(b"\n") == 4
    assert found[b"X-Forwarded-For"].split(b",")[-1].strip() == node
    assert found[b"X-Forwarded-Proto"] in {b"http", b"https"}
    assert is_host(found[b"X-Forwarded-Host"])
    elements = _ELEMENT.findall(found[b"Forwarded"])
    last = [each for each in elements if each][-1].strip()
    assert last.startswith(b'for="[%b]";' % node if b":" in node else b"for=%b;" % node), last
    assert last.endswith(b'"')
