"""The client's address in X-Forwarded-For, as the control plane reads it back."""

from __future__ import annotations

import ipaddress
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire.client_address import client_of, last_client, parse_address

NETWORKS: Final = [ipaddress.ip_network("10.0.0.0/8")]


@pytest.mark.parametrize(
    ("chain", "client", "network"),
    [
        pytest.param("203.0.113.5", "203.0.113.5", "203.0.113.5", id="the-peer"),
        pytest.param("198.51.100.1, 203.0.113.5", "203.0.113.5", "203.0.113.5", id="untrusted"),
        pytest.param("6.6.6.6, 203.0.113.5, 10.0.0.1", "203.0.113.5", "203.0.113.5", id="invented"),
        pytest.param("203.0.113.5,10.0.0.2 ,10.0.0.1", "203.0.113.5", "203.0.113.5", id="two-hops"),
        pytest.param("10.0.0.2, 10.0.0.1", "10.0.0.2", "10.0.0.2", id="only-proxies"),
        pytest.param("unknown, 10.0.0.1", "10.0.0.1", "10.0.0.1", id="a-proxy-that-hides"),
        pytest.param("203.0.113.5, _x, 10.0.0.1", "10.0.0.1", "10.0.0.1", id="obfuscated"),
        pytest.param(", 10.0.0.1", "10.0.0.1", "10.0.0.1", id="empty-entry"),
        pytest.param("203.0.113.5:61000, 10.0.0.1", "203.0.113.5", "203.0.113.5", id="port"),
        pytest.param("[fd00::1]:61000", "fd00::1", "fd00::/64", id="ipv6-port"),
        pytest.param("[fd00::1]", "fd00::1", "fd00::/64", id="brackets"),
        pytest.param("fe80::1%eth0", "fe80::1%eth0", "fe80::/64", id="zone"),
        pytest.param("::1", "::1", "::/64", id="loopback"),
        pytest.param("::ffff:203.0.113.5", "203.0.113.5", "203.0.113.5", id="mapped"),
        pytest.param("fd00::1, ::ffff:10.0.0.1", "fd00::1", "fd00::/64", id="mapped-proxy"),
        pytest.param("unknown", "", "", id="unix-socket"),
        pytest.param("", "", "", id="empty"),
        pytest.param("1.2.3.4.5", "", "", id="no-address"),
    ],
)
def test_the_client_of_a_chain(chain: str, client: str, network: str) -> None:
    """The client is the last entry that is not a trusted proxy's address, and counts by network."""
    assert last_client(chain, NETWORKS) == client
    assert client_of(parse_address(client)) == network


def test_an_endless_chain() -> None:
    """Of a chain of trusted addresses, only the last few are read."""
    assert last_client("203.0.113.5, " + "10.0.0.1, " * 5000 + "10.0.0.9", NETWORKS) == "10.0.0.1"


@given(st.text(max_size=60))
def test_any_chain(chain: str) -> None:
    """Whatever a header has, the result is an address or nothing."""
    found = last_client(chain, NETWORKS)
    assert found == "" or str(ipaddress.ip_address(found)) == found
