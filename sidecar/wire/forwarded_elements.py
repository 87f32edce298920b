"""Reads and writes Forwarded (RFC 7239): one element for each proxy, the last one by the peer.

Owns the syntax of its elements. Knows nothing of trust, or of other headers.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sidecar.wire.octets import keeping

# Quoted pairs have no use in the parameters that are read here: an element with one is malformed.
# Some proxies quote neither ports nor brackets.
_NAME: Final = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_VALUE: Final = rb'(?:[A-Za-z0-9!#$%&\'*+.^_`|~:\[\]-]+|"[^"\\]*")'
_PAIR: Final = _NAME + b"=" + _VALUE
_ELEMENT: Final = re.compile(_PAIR + rb"(?:[ \t]*;[ \t]*" + _PAIR + rb")*")
_PAIRS: Final = re.compile(b"(" + _NAME + b")=(" + _VALUE + b")")
# RFC 7239 section 6: IPv4, IPv6 in brackets, "unknown" or an obfuscated name, each with a port
_NODE: Final = re.compile(
    rb"(?:[0-9.]{7,15}|\[[0-9A-Fa-f:.]{2,45}\]|unknown|_[A-Za-z0-9._-]{1,64})"
    rb"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]{1,64}))?"
)
_IPV6: Final = re.compile(rb"[0-9A-Fa-f:.]{2,45}")
_DIGITS: Final = keeping(b"0123456789.")
_PLAIN_LIST: Final = re.compile(rb"[0-9.]{7,15}(?:, [0-9.]{7,15}){0,7}")
_UNKNOWN: Final = b"unknown"
_MOST: Final = 32  # elements that are read, and entries of X-Forwarded-For that become elements


class Element(NamedTuple):
    """What one proxy says about its client. `node` has no quotes; other values may be empty."""

    text: bytes
    node: bytes
    proto: bytes
    host: bytes


def parse_elements(value: bytes) -> list[Element]:
    """Return the well-formed elements at the end of a Forwarded value, 32 at most.

    What comes before a malformed element comes from the client, and so does that element. The
    proxies appended the rest.
    """
    elements: list[Element] = []
    parts = value.split(b",")
    while parts and len(elements) < _MOST:
        pieces = [parts.pop()]
        quoted = pieces[0].count(b'"') % 2  # the comma is within quotes, unless one is left open
        while quoted and parts:
            pieces.append(parts.pop())
            quoted ^= pieces[-1].count(b'"') % 2
        element = _parse(b",".join(reversed(pieces)).strip(b" \t"))
        if element is None:
            break
        elements.append(element)
    elements.reverse()
    return elements


def _parse(text: bytes) -> Element | None:
    if not _ELEMENT.fullmatch(text):
        return None
    pairs = [(name.lower(), value.strip(b'"')) for name, value in _PAIRS.findall(text)]
    said = dict(pairs)
    if len(said) < len(pairs):  # each parameter at most once (section 4)
        return None
    node = said.get(b"for", _UNKNOWN)
    if not _NODE.fullmatch(node):
        return None
    return Element(text, node, said.get(b"proto", b""), said.get(b"host", b""))


def is_plain_list(addresses: bytes) -> bool:
    """Whether this is a list of at most eight IPv4 addresses, as proxies write it."""
    if len(addresses) <= 15:  # one, as most often: found without the regular expression
        return len(addresses) >= 7 and addresses.translate(_DIGITS) == addresses
    return _PLAIN_LIST.fullmatch(addresses) is not None


def elements_of(addresses: bytes) -> bytes:
    """Return elements for the last entries of X-Forwarded-For; empty for an empty list."""
    if not addresses:
        return b""
    if _PLAIN_LIST.fullmatch(addresses):
        return b"for=" + addresses.replace(b", ", b", for=")
    entries = addresses.rsplit(b",", _MOST)[-_MOST:]
    return b", ".join(b"for=" + node_of(entry.strip(b" \t")) for entry in entries)


def node_of(address: bytes) -> bytes:
    """Return a node identifier for an address as X-Forwarded-For has it, in quotes if need be."""
    if address.count(b":") > 1 and _IPV6.fullmatch(address):
        return b'"[%b]"' % address
    if not _NODE.fullmatch(address):
        return _UNKNOWN
    return b'"%b"' % address if b":" in address else address
