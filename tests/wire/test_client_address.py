"""Which client a limit counts for, of the peer and of what trusted proxies say."""

from __future__ import annotations

import ipaddress
import tracemalloc
from typing import Final

import pytest

from sidecar.wire.client_address import NOBODY, NamedClients, client_of, is_among, parse_address

NETWORKS: Final = [ipaddress.ip_network(each) for each in ("10.0.0.0/8", "2001:db8:f::/48")]


@pytest.mark.parametrize(
    ("address", "client"),
    [
        pytest.param("192.0.2.1", "192.0.2.1", id="ipv4"),
        pytest.param("2001:db8::1", "2001:db8::/64", id="ipv6"),
        pytest.param("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64", id="end-of-the-network"),
        pytest.param("2001:db8:0:1::1", "2001:db8:0:1::/64", id="next-network"),
        pytest.param("::ffff:192.0.2.1", "192.0.2.1", id="ipv4-in-ipv6-form"),
        pytest.param("fe80::1%eth0", "fe80::/64", id="with-a-scope"),
        pytest.param("", "", id="unix-socket"),
        pytest.param("localhost", "", id="name"),
    ],
)
def test_the_unit_that_is_counted(address: str, client: str) -> None:
    """One IPv4 address, whichever its form, or one IPv6 network of 64 bits."""
    assert client_of(parse_address(address)) == client


def test_is_among() -> None:
    """An address is looked for in each network; no address is in none."""
    assert is_among(parse_address("10.1.2.3"), NETWORKS)
    assert is_among(parse_address("2001:db8:f::1"), NETWORKS)
    assert not is_among(parse_address("192.0.2.1"), NETWORKS)
    assert not is_among(None, NETWORKS)


@pytest.mark.parametrize(
    ("forwarded_for", "address"),
    [
        pytest.param(b"192.0.2.1", "192.0.2.1", id="one"),
        pytest.param(b"192.0.2.1, 10.0.0.1", "192.0.2.1", id="behind-a-trusted-proxy"),
        pytest.param(b"198.51.100.9,192.0.2.1,10.0.0.1,10.0.0.2", "192.0.2.1", id="a-made-up-one"),
        pytest.param(b"10.0.0.9, 10.0.0.1", "10.0.0.9", id="a-client-beside-the-proxies"),
        pytest.param(b"nonsense, 192.0.2.1", "192.0.2.1", id="nonsense-before-it"),
        pytest.param(b"2001:db8::1", "2001:db8::1", id="ipv6"),
        pytest.param(b"[2001:db8::1]:4711", "2001:db8::1", id="ipv6-and-port"),
        pytest.param(b"[2001:db8::1]", "2001:db8::1", id="brackets"),
        pytest.param(b"192.0.2.1:4711", "192.0.2.1", id="ipv4-and-port"),
        pytest.param(b"::ffff:192.0.2.1", "192.0.2.1", id="ipv4-in-ipv6-form"),
        pytest.param(b"", "", id="empty"),
        pytest.param(b"unknown", "", id="no-address"),
        pytest.param(b"192.0.2.1, unknown, 10.0.0.1", "", id="a-proxy-hides-it"),
        pytest.param(b"192.0.2.1,", "", id="empty-at-the-end"),
        pytest.param(b"\xff, 192.0.2.1", "192.0.2.1", id="not-ascii"),
    ],
)
def test_the_client_that_a_proxy_names(forwarded_for: bytes, address: str) -> None:
    """The last address that is not a trusted proxy; what clients write before it does not count."""
    clients = NamedClients(NETWORKS)
    for _ in range(2):
        named = clients[forwarded_for]
        assert named.address == address
        assert named.client == client_of(parse_address(address))
        assert bool(address) is (named != NOBODY)


def test_a_list_of_any_length_is_read_from_its_end() -> None:
    """Only so many proxies are looked at, however long the list is."""
    clients = NamedClients(NETWORKS)
    assert clients[b"192.0.2.1" + b", 10.0.0.1" * 5000] == NOBODY
    assert clients[b"1.1.1.1, " * 5000 + b"192.0.2.1"].address == "192.0.2.1"


@pytest.mark.parametrize(
    ("forwarded_for", "hops"),
    [
        pytest.param(b"192.0.2.1", 1, id="the-last"),
        pytest.param(b"203.0.113.9, 192.0.2.1, 10.0.0.1", 2, id="behind-a-trusted-proxy"),
        pytest.param(b"10.0.0.9, 10.0.0.1", 2, id="a-client-beside-the-proxies"),
        pytest.param(b"192.0.2.1, unknown, 10.0.0.1", 2, id="a-proxy-hides-it"),
        pytest.param(b"", 1, id="empty"),
    ],
)
def test_how_far_the_client_is_from_the_end(forwarded_for: bytes, hops: int) -> None:
    """So many entries at the end are the client and the proxies in front of it."""
    assert NamedClients(NETWORKS).hops(forwarded_for) == hops


@pytest.mark.parametrize("padding", [b"", b"198.51.100.1, " * 200], ids=["short", "long"])
def test_what_is_remembered_is_bounded(padding: bytes) -> None:
    """Clients that send ever new lists of addresses do not fill the memory."""
    clients = NamedClients(NETWORKS)
    tracemalloc.start()
    try:
        for number in range(10_000):
            assert clients[padding + b"198.51.%d.%d" % divmod(number, 256)]
        assert tracemalloc.get_traced_memory()[0] < 2 << 20
    finally:
        tracemalloc.stop()
