"""The headers that describe the client, and the trust in those of a peer (RFC 7239)."""

from __future__ import annotations

import ipaddress
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.wire.client_address import NOBODY, NamedClients
from sidecar.wire.forwarded import Forwarding, is_trusted, with_port
from sidecar.wire.head import RequestHead
from tests.wire.readers import read_request

if TYPE_CHECKING:
    from collections.abc import Sequence

NETWORKS: Final = [
    ipaddress.ip_network(network) for network in ("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32")
]


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        pytest.param("10.1.2.3", True, id="in-a-network"),
        pytest.param("192.0.2.7", True, id="single"),
        pytest.param("192.0.2.8", False, id="next-to-it"),
        pytest.param("2001:db8::1", True, id="ipv6"),
        pytest.param("2001:db9::1", False, id="other-ipv6"),
        pytest.param("::ffff:10.0.0.1", True, id="ipv4-mapped"),
        pytest.param("::ffff:11.0.0.1", False, id="other-ipv4-mapped"),
        pytest.param("2001:db8::1%eth0", True, id="scope"),
        pytest.param("", False, id="unix-socket"),
        pytest.param("10.1", False, id="short"),
        pytest.param("localhost", False, id="name"),
    ],
)
def test_is_trusted(address: str, trusted: bool) -> None:  # noqa: FBT001 (a table)
    """A peer is trusted only because of its own address."""
    assert is_trusted(address, NETWORKS) is trusted
    assert not is_trusted(address, [])


def said(*lines: bytes, host: bytes = b"h") -> RequestHead:
    """Return a request with these headers."""
    return read_request(b"Host: " + host, *lines, host=False)


def block(addresses: bytes, proto: bytes, host: bytes, forwarded: bytes) -> bytes:
    """Return the four header lines."""
    return b"".join(
        (
            *(b"X-Forwarded-For: ", addresses, b"\r\nX-Forwarded-Proto: ", proto),
            *(b"\r\nX-Forwarded-Host: ", host, b"\r\nForwarded: ", forwarded, b"\r\n"),
        )
    )


@pytest.mark.parametrize(
    ("address", "shown", "node"),
    [
        pytest.param("192.0.2.1", b"192.0.2.1", b"192.0.2.1", id="ipv4"),
        pytest.param("2001:db8::1", b"2001:db8::1", b'"[2001:db8::1]"', id="ipv6"),  # section 6
        pytest.param("", b"unknown", b"unknown", id="unix-socket"),  # section 6.2
    ],
)
def test_the_peer_is_the_client(address: str, shown: bytes, node: bytes) -> None:
    """Nothing that an untrusted peer says about the client is passed on."""
    forwarding = Forwarding(address, "https", trusted=False)
    head = said(b"X-Forwarded-For: 203.0.113.9", b"Forwarded: for=x", b"X-Forwarded-Proto: http")
    expected = block(shown, b"https", b"h", b'for=%b;proto=https;host="h"' % node)
    assert forwarding.lines(head) == forwarding.lines(said()) == expected
    assert forwarding.client(head) == shown.decode()
    assert repr(forwarding) == f"<Forwarding {shown.decode()} trusted=False>"


def test_a_connection_keeps_its_host() -> None:
    """The lines are built once per Host, and again for another Host."""
    forwarding = Forwarding("192.0.2.1", "http", trusted=True)
    first = forwarding.lines(said(host=b"a"))
    assert forwarding.lines(said(host=b"a")) is first
    assert b'host="b"' in forwarding.lines(said(host=b"b"))
    assert forwarding.lines(said(host=b"a")) == first
    bare = Forwarding("192.0.2.1", "http", trusted=False).lines(RequestHead())  # HTTP/1.0
    assert bare.endswith(b"Forwarded: for=192.0.2.1;proto=http\r\n")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(
            [b"X-Forwarded-For: 203.0.113.9"],
            block(
                *(b"203.0.113.9, 10.0.0.1", b"http", b"h"),
                b'for=203.0.113.9, for=10.0.0.1;proto=http;host="h"',
            ),
            id="for",
        ),
        pytest.param(
            [b"X-Forwarded-For: 203.0.113.9", b"X-Forwarded-For: [2001:db8::1]:80, unknown"],
            block(
                b"203.0.113.9, [2001:db8::1]:80, unknown, 10.0.0.1",
                *(b"http", b"h"),
                b'for=203.0.113.9, for="[2001:db8::1]:80", for=unknown, '
                b'for=10.0.0.1;proto=http;host="h"',
            ),
            id="for-in-lines",
        ),
        pytest.param(
            [b"X-Forwarded-For: a<b>"],
            block(b"10.0.0.1", b"http", b"h", b'for=10.0.0.1;proto=http;host="h"'),
            id="for-nonsense",
        ),
        pytest.param(
            [b'X-Forwarded-For: 192.0.2.66, "6, 203.0.113.9, 10.0.0.2'],
            block(
                b"203.0.113.9, 10.0.0.2, 10.0.0.1",
                b"http",
                b"h",
                b'for=203.0.113.9, for=10.0.0.2, for=10.0.0.1;proto=http;host="h"',
            ),
            id="for-nonsense-of-the-client",
        ),
        pytest.param(
            [b"X-Forwarded-For: a<b>", b"X-Forwarded-For: 203.0.113.9"],
            block(
                *(b"203.0.113.9, 10.0.0.1", b"http", b"h"),
                b'for=203.0.113.9, for=10.0.0.1;proto=http;host="h"',
            ),
            id="for-nonsense-in-a-line-before",
        ),
        pytest.param(
            [b"X-Forwarded-Proto: HTTPS", b"X-Forwarded-Host: public.example:8443"],
            block(
                *(b"10.0.0.1", b"https", b"public.example:8443"),
                b'for=10.0.0.1;proto=https;host="public.example:8443"',
            ),
            id="proto-and-host",
        ),
        pytest.param(
            [b"X-Forwarded-Proto: gopher", b'X-Forwarded-Host: a";b'],
            block(b"10.0.0.1", b"http", b"h", b'for=10.0.0.1;proto=http;host="h"'),
            id="proto-and-host-nonsense",
        ),
        pytest.param(
            [b'Forwarded: for="[::1]:4711";by=_x, for=unknown'],
            block(
                *(b"unknown, 10.0.0.1", b"http", b"h"),
                b'for=unknown, for=10.0.0.1;proto=http;host="h"',
            ),
            id="forwarded",
        ),
        pytest.param(
            [b'Forwarded: for="a'],
            block(b"10.0.0.1", b"http", b"h", b'for=10.0.0.1;proto=http;host="h"'),
            id="forwarded-open-quote",
        ),
        pytest.param(
            [b'Forwarded: for="a\\""'],
            block(b"10.0.0.1", b"http", b"h", b'for=10.0.0.1;proto=http;host="h"'),
            id="forwarded-escaped-quote",
        ),
    ],
)
def test_a_trusted_peer_is_believed(lines: list[bytes], expected: bytes) -> None:
    """A trusted peer's values are kept and ours appended, unless they are malformed."""
    forwarding = Forwarding("10.0.0.1", "http", trusted=True)
    assert forwarding.lines(said(*lines)) == expected


@pytest.mark.parametrize(
    ("value", "client"),
    [
        pytest.param(b"198.51.100.66, 203.0.113.9, 10.0.0.2", "203.0.113.9", id="last-untrusted"),
        pytest.param(b" 2001:db9::1 ", "2001:db9::1", id="ipv6"),
        pytest.param(b"10.0.0.3, 10.0.0.2", "10.0.0.3", id="beside-the-proxies"),
        pytest.param(b"", "10.0.0.1", id="empty"),
        pytest.param(b"203.0.113.9,", "10.0.0.1", id="empty-last"),
        pytest.param(b"<script>", "10.0.0.1", id="nonsense"),
        pytest.param(None, "10.0.0.1", id="absent"),
        pytest.param(b"203.0.113.9\t\t\tx", "10.0.0.1", id="white-space-within"),
        pytest.param(b"2001:db8::1" * 100, "10.0.0.1", id="long"),
    ],
)
def test_the_client_in_the_log(value: bytes | None, client: str) -> None:
    """The log names the client that limits apply to, which no client can choose."""
    head = said() if value is None else said(b"X-Forwarded-For: " + value, b"X-Forwarded-Host: h")
    clients = NamedClients(NETWORKS)
    trusted = Forwarding("10.0.0.1", "http", trusted=True, clients=clients)
    assert trusted.client(head) == client
    assert (trusted.named(head) == NOBODY) is (client == "10.0.0.1")
    assert Forwarding("10.0.0.1", "http", trusted=False, clients=clients).client(head) == "10.0.0.1"


@pytest.mark.parametrize(
    ("value", "caller"),
    [
        pytest.param(b"203.0.113.9", "203.0.113.9", id="named"),
        pytest.param(b"2001:db9::1", "2001:db9::/64", id="network"),
        pytest.param(b"nonsense", "10.0.0.1", id="the-proxy"),
    ],
)
def test_whom_limits_apply_to(value: bytes, caller: str) -> None:
    """Limits apply to the client that a trusted proxy names, else to the peer."""
    head = said(b"X-Forwarded-For: " + value)
    clients = NamedClients(NETWORKS)
    assert Forwarding("10.0.0.1", "http", trusted=True, clients=clients).caller(head) == caller
    stranger = Forwarding("2001:db9::2", "http", trusted=False, clients=clients)
    assert stranger.caller(head) == "2001:db9::/64"
    assert Forwarding("", "http", trusted=False, clients=clients).caller(head) == "unknown"


@pytest.mark.parametrize(
    ("trusted", "expected"),
    [
        pytest.param(True, b"Client-Cert: :YWJj:\r\n", id="of-the-proxy's-client"),
        pytest.param(False, b"Client-Cert: :ZGVy:\r\n", id="of-the-peer"),
    ],
)
def test_the_certificate(trusted: bool, expected: bytes) -> None:  # noqa: FBT001 (a table)
    """A trusted proxy reports its client's certificate; any other peer's own one is forwarded."""
    forwarding = Forwarding("10.0.0.1", "https", trusted=trusted, certificate=b"der")
    head = said(b"Client-Cert: :YWJj:", b"Client-Cert-Chain: nonsense")
    assert forwarding.lines(head).endswith(b"\r\n" + expected)


class Case(NamedTuple):
    """What a trusted proxy at 10.0.0.1 sends, and what is made of it."""

    lines: list[str]
    client: str = "10.0.0.1"
    origin: str = "http://h"
    prefix: str = ""
    has: Sequence[str] = ()  # lines that the application gets
    lacks: Sequence[str] = ()


CASES: Final[dict[str, Case]] = {
    name: Case(**case)
    for name, case in tomllib.loads(
        Path(__file__).with_name("forwarded.toml").read_text("utf-8")
    ).items()
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_trusted_proxy_says(name: str) -> None:
    """The application gets what the sidecar itself uses for limits, logs and redirects."""
    case = CASES[name]
    head = said(*(line.encode() for line in case.lines))
    forwarding = Forwarding("10.0.0.1", "http", trusted=True, clients=NamedClients(NETWORKS))
    lines = forwarding.lines(head).decode().split("\r\n")
    assert forwarding.client(head) == case.client
    assert forwarding.origin(head).decode() == case.origin
    assert forwarding.prefix(head).decode() == case.prefix
    assert [line for line in case.has if line not in lines] == [], lines
    names = {line.partition(":")[0] for line in lines}
    assert names.isdisjoint(case.lacks)
    scheme, host = case.origin.split("://")
    assert f"X-Forwarded-Proto: {scheme}" in lines
    assert any(
        with_port(line.partition(": ")[2], port) == host
        for line in lines
        if line.startswith("X-Forwarded-Host")
        for port in [
            *(each.partition(": ")[2] for each in lines if each.startswith("X-Forwarded-Port")),
            "",
        ]
    )
    assert ("X-Forwarded-Prefix" in names) is bool(case.prefix)


@pytest.mark.parametrize("name", CASES)
def test_what_a_stranger_says(name: str) -> None:
    """Nothing of it reaches the application, and the sidecar uses nothing of it."""
    stranger = Forwarding("192.0.2.1", "http", trusted=False, clients=NamedClients(NETWORKS))
    head = said(*(line.encode() for line in CASES[name].lines))
    assert stranger.lines(head) == stranger.lines(said())
    assert (stranger.client(head), stranger.named(head)) == ("192.0.2.1", NOBODY)
    assert (stranger.origin(head), stranger.prefix(head)) == (b"http://h", b"")


texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)


@settings(deadline=None)
@given(st.booleans(), texts, texts, texts, texts)
def test_always_four_lines(
    trusted: bool,  # noqa: FBT001 (drawn)
    address: str,
    proto: str,
    host: str,
    forwarded: str,
) -> None:
    """Whatever a peer sends, there are four lines, and the last Forwarded element is ours."""
    names = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded")
    values = (address, proto, host, forwarded)
    head = said(*(f"{n}: {v}".encode() for n, v in zip(names, values, strict=True)))
    lines = Forwarding("10.0.0.1", "http", trusted=trusted).lines(head).split(b"\r\n")
    assert [line.partition(b":")[0].decode() for line in lines] == [*names, ""]
    assert lines[0].endswith(b"10.0.0.1")
    before = lines[3].rpartition(b"for=10.0.0.1;")[0]
    assert before.count(b'"') % 2 == 0


PROTOS: Final = (b"https", b"http", b"wss", b"HTTPS", b"ftp", b"", b"https, http", None)
HOSTS: Final = (b"shop.example", b"other.example:8443", b"a b", b"", b"a.example, b.example", None)
ADDRESSES: Final = (b"203.0.113.9", b"203.0.113.9, 10.0.0.3", b"2001:db8::7", b"evil, 1.2.3.4", b"")


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(ADDRESSES),
            st.sampled_from(PROTOS),
            st.sampled_from(HOSTS),
            st.sampled_from((b"h", b"i")),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_what_is_kept_of_a_request_does_not_speak_for_the_next(
    requests: list[tuple[bytes, bytes | None, bytes | None, bytes]],
) -> None:
    """A used connection writes what a new one would, and what is written for a rare header."""
    used = Forwarding("10.0.0.9", "http", trusted=True)
    for addresses, proto, host, named in requests:
        lines = [b"X-Forwarded-For: " + addresses]
        lines += [b"X-Forwarded-Proto: " + proto] if proto is not None else []
        lines += [b"X-Forwarded-Host: " + host] if host is not None else []
        written = used.lines(said(*lines, host=named))
        assert written == Forwarding("10.0.0.9", "http", trusted=True).lines(
            said(*lines, host=named)
        )
        # An empty port has no effect, and such a request is not treated as the usual ones are.
        assert written == used.lines(said(*lines, b"X-Forwarded-Port: ", host=named))
