"""The elements of Forwarded, as RFC 7239 and as proxies write them."""

from __future__ import annotations

import pytest

from sidecar.wire.forwarded_elements import elements_of, node_of, parse_elements


@pytest.mark.parametrize(
    ("value", "elements"),
    [
        pytest.param(b"for=192.0.2.1", [(b"192.0.2.1", b"", b"")], id="one"),
        pytest.param(
            b"for=192.0.2.1;proto=https;host=a, for=10.0.0.1",
            [(b"192.0.2.1", b"https", b"a"), (b"10.0.0.1", b"", b"")],
            id="two",
        ),
        pytest.param(
            b'FOR="[2001:db8::1]:80";Host="a:1"', [(b"[2001:db8::1]:80", b"", b"a:1")], id="quoted"
        ),
        pytest.param(b"by=_a;proto=http", [(b"unknown", b"http", b"")], id="without-for"),
        pytest.param(b'for="_a:_b"', [(b"_a:_b", b"", b"")], id="obfuscated"),
        pytest.param(b"for=unknown", [(b"unknown", b"", b"")], id="unknown"),
        pytest.param(
            b'for=192.0.2.1;x="a,b,c";host=d', [(b"192.0.2.1", b"", b"d")], id="commas-in-quotes"
        ),
        pytest.param(
            b'for=192.0.2.1;x="a;host=e"', [(b"192.0.2.1", b"", b"")], id="semicolon-in-quotes"
        ),
        pytest.param(b"for=192.0.2.1 ; host=a", [(b"192.0.2.1", b"", b"a")], id="spaces"),
        pytest.param(b'x="a, for=192.0.2.1', [(b"192.0.2.1", b"", b"")], id="open-quote-before"),
        pytest.param(b"<x>, for=192.0.2.1", [(b"192.0.2.1", b"", b"")], id="nonsense-before"),
        pytest.param(b"for=192.0.2.1, <x>", [], id="nonsense-last"),
        pytest.param(b'for=192.0.2.1, for="10.0.0.1', [], id="open-quote-last"),
        pytest.param(b"", [], id="empty"),
        pytest.param(b"for=192.0.2.1,", [], id="empty-last"),
        pytest.param(b"for=192.0.2.1;", [], id="empty-parameter"),
        pytest.param(b"for", [], id="no-value"),
        pytest.param(b"for=", [], id="empty-value"),
        pytest.param(b'for=""', [], id="empty-quotes"),
        pytest.param(b"for=192.0.2.1;For=192.0.2.1", [], id="twice"),
        pytest.param(b"for=localhost", [], id="name"),
        pytest.param(b'for="a\\"b"', [], id="quoted-pair"),
        pytest.param(b"for=2001:db8::1", [], id="ipv6-without-brackets"),
    ],
)
def test_parse(value: bytes, elements: list[tuple[bytes, bytes, bytes]]) -> None:
    """Well-formed elements at the end count, and nothing before a malformed one."""
    parsed = parse_elements(value)
    assert [(each.node, each.proto, each.host) for each in parsed] == elements
    assert parse_elements(b", ".join(each.text for each in parsed)) == parsed


@pytest.mark.parametrize("piece", [b',"', b'a"b,', b"for=1.1.1.1,", b"a=b;", b'a="', b",", b" "])
def test_any_length(piece: bytes) -> None:
    """The time for a long value grows with its length only, whatever it consists of."""
    assert len(parse_elements(piece * 30_000)) <= 32
    parsed = parse_elements(piece * 30_000 + b', for="[2001:db8::1]"')
    assert parsed == [] or parsed[-1].node == b"[2001:db8::1]"


def test_only_so_many_are_read() -> None:
    """However many elements a client makes up, reading the last ones costs the same."""
    parsed = parse_elements(b"for=1.1.1.1," * 5000 + b"for=192.0.2.1")
    assert [each.node for each in parsed] == [b"1.1.1.1"] * 31 + [b"192.0.2.1"]


@pytest.mark.parametrize(
    ("address", "node"),
    [
        pytest.param(b"192.0.2.1", b"192.0.2.1", id="ipv4"),
        pytest.param(b"192.0.2.1:80", b'"192.0.2.1:80"', id="ipv4-and-port"),
        pytest.param(b"2001:db8::1", b'"[2001:db8::1]"', id="ipv6"),
        pytest.param(b"[2001:db8::1]", b'"[2001:db8::1]"', id="brackets"),
        pytest.param(b"[2001:db8::1]:80", b'"[2001:db8::1]:80"', id="ipv6-and-port"),
        pytest.param(b"unknown", b"unknown", id="unknown"),
        pytest.param(b"_a", b"_a", id="obfuscated"),
        pytest.param(b"localhost", b"unknown", id="name"),
        pytest.param(b"", b"unknown", id="empty"),
        pytest.param(b'a"b', b"unknown", id="quote"),
    ],
)
def test_node(address: bytes, node: bytes) -> None:
    """An address becomes a node identifier, quoted where it has colons (section 6)."""
    assert node_of(address) == node
    (parsed,) = parse_elements(b"for=" + node)
    assert parsed.node == node.strip(b'"')


def test_the_last_entries_become_elements() -> None:
    """Elements are longer than entries, so that only so many entries become elements."""
    assert elements_of(b"") == b""
    assert elements_of(b"192.0.2.1, 10.0.0.1") == b"for=192.0.2.1, for=10.0.0.1"
    assert elements_of(b"192.0.2.1,::1") == b'for=192.0.2.1, for="[::1]"'
    many = b"1.1.1.1, " * 100 + b"192.0.2.1"
    assert elements_of(many) == b"for=1.1.1.1, " * 31 + b"for=192.0.2.1"
