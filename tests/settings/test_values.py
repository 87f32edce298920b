"""Every kind of value: what it accepts, what it refuses, and how it is shown."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.auth import keys
from sidecar.secret import Secret
from sidecar.settings import kinds, net
from sidecar.settings.kinds import InvalidValue, ValueKind, seconds, show_seconds, shown
from sidecar.settings.model import ASYMMETRIC, SECRET_BYTES, IssuerSettings, Settings, kinds_of
from sidecar.settings.net import Address, Upstream
from sidecar.settings.routes import RouteSettings

ROUTE = kinds_of(RouteSettings)
ISSUER = kinds_of(IssuerSettings)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param("15m", 900.0, id="minutes"),
        pytest.param("12h", 43200.0, id="hours"),
        pytest.param("7d", 604800.0, id="days"),
        pytest.param("900", 900.0, id="bare-number-is-seconds"),
        pytest.param(900, 900.0, id="toml-integer"),
        pytest.param(0.5, 0.5, id="toml-float"),
        pytest.param("100ms", 0.1, id="milliseconds-are-exact"),
        pytest.param("1.5h", 5400.0, id="fraction"),
        pytest.param("0", 0.0, id="zero"),
        pytest.param(1.0625, 1.062, id="to-the-millisecond"),
    ],
)
def test_a_duration_reads_every_documented_form(raw: object, expected: float) -> None:
    """A duration is a number of seconds, or a number with a unit."""
    assert seconds(raw) == expected


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "m",
        "15 m",
        "15min",
        "1h30m",
        "-5s",
        "+5s",
        "1e3",
        "inf",
        "nan",
        "0x10",
        "٣s",
        "5s\n",
        "9" * 20,
        True,
        -1,
        float("inf"),
        float("nan"),
        None,
        [],
        {},
    ],
)
def test_a_duration_refuses_what_it_could_only_guess(raw: object) -> None:
    """Other units, signs, exponents, digits and types are refused."""
    with pytest.raises(InvalidValue):
        seconds(raw)


@given(st.integers(min_value=0, max_value=10 * 365 * 86400 * 1000))
def test_a_shown_duration_reads_back_exactly(millis: int) -> None:
    """A duration in whole milliseconds is shown and read back exactly."""
    value = float(millis) / 1000
    assert seconds(show_seconds(value)) == value


GOOD = [
    pytest.param(kinds.integer(1, 65535), "6379", 6379, id="integer-text"),
    pytest.param(kinds.integer(1, 65535), 65535, 65535, id="integer-most"),
    pytest.param(kinds.size(1024, 1 << 20), "64KiB", 65536, id="size-kib"),
    pytest.param(kinds.size(1024, 1 << 20), "1 MiB", 1 << 20, id="size-mib"),
    pytest.param(kinds.size(1024, 1 << 20), 32768, 32768, id="size-integer"),
    pytest.param(kinds.size(1024, 1 << 20), "32768", 32768, id="size-text"),
    pytest.param(kinds.switch(), "TRUE", True, id="switch-true"),
    pytest.param(kinds.switch(), "0", False, id="switch-zero"),
    pytest.param(kinds.switch(), False, False, id="switch-toml"),
    pytest.param(kinds.choice("", "a", "b"), "", "", id="choice-empty"),
    pytest.param(kinds.text(), "auth sidecar", "auth sidecar", id="text"),
    pytest.param(kinds.hidden(), "s3cret", Secret("s3cret"), id="secret"),
    pytest.param(net.address(), "127.0.0.1:5005", Address("127.0.0.1", 5005), id="address"),
    pytest.param(net.address(), ":0", Address("0.0.0.0", 0), id="address-any"),
    pytest.param(net.address(), "[::1]:80", Address("::1", 80), id="address-v6"),
    pytest.param(net.address(), "my-host:80", Address("my-host", 80), id="address-name"),
    pytest.param(net.host(), "redis-service.prod.svc", "redis-service.prod.svc", id="host"),
    pytest.param(net.host(), "fd00::1", "fd00::1", id="host-v6"),
    pytest.param(net.upstream(), "http://app", Upstream("http", "app", 80), id="upstream-80"),
    pytest.param(net.upstream(), "https://app/", Upstream("https", "app", 443), id="upstream-443"),
    pytest.param(net.upstream(), "http://[::1]:81", Upstream("http", "::1", 81), id="upstream-v6"),
    pytest.param(
        net.upstream(), "unix:///run/a.sock", Upstream("unix", path="/run/a.sock"), id="unix"
    ),
    pytest.param(net.web_url(), "https://id/jwks?x=1", "https://id/jwks?x=1", id="web-url"),
    pytest.param(net.web_url(), "", "", id="web-url-none"),
    pytest.param(net.origin(), "HTTPS://App.Example:443/", "https://app.example", id="origin"),
    pytest.param(net.origin(), "http://[::1]:81", "http://[::1]:81", id="origin-v6"),
    pytest.param(net.origin(), "http://[0:0::A:01]", "http://[::a:1]", id="origin-v6-written-out"),
    pytest.param(kinds.command(), ["/opt/token", "a b"], ("/opt/token", "a b"), id="command"),
    pytest.param(
        kinds.command(), "/opt/token 'a b' --json", ("/opt/token", "a b", "--json"), id="words"
    ),
    pytest.param(kinds.command(), "", (), id="no-command"),
    pytest.param(net.redis_url(), "redis://u:p@r:1/2", Secret("redis://u:p@r:1/2"), id="redis-url"),
    pytest.param(net.redis_url(), "rediss://r", Secret("rediss://r"), id="redis-tls"),
    pytest.param(net.redis_url(), "unix:///r.sock", Secret("unix:///r.sock"), id="redis-unix"),
    pytest.param(
        net.redis_url(),
        "unix://u:p@/r.sock?db=2",
        Secret("unix://u:p@/r.sock?db=2"),
        id="unix-user",
    ),
    pytest.param(net.redis_url(), "", Secret(""), id="redis-none"),
    pytest.param(
        net.networks(),
        "10.0.0.0/8, fd00::/8,192.168.1.7",
        tuple(map(ip_network, ("10.0.0.0/8", "fd00::/8", "192.168.1.7/32"))),
        id="networks-text",
    ),
    pytest.param(net.networks(), ["10.0.0.0/8"], (ip_network("10.0.0.0/8"),), id="networks-list"),
    pytest.param(net.networks(), "", (), id="networks-none"),
    pytest.param(ROUTE["path"], "/", "/", id="path-root"),
    pytest.param(ROUTE["path"], "/*", "/*", id="path-all"),
    pytest.param(ROUTE["path"], "/café au lait/x.y/*", "/café au lait/x.y/*", id="path-text"),
    pytest.param(ROUTE["path"], "/x/", "/x/", id="path-trailing-slash"),
    pytest.param(ROUTE["methods"], ["GET", "M-SEARCH"], ("GET", "M-SEARCH"), id="methods"),
    pytest.param(ROUTE["hosts"], ["App.Example.", "[::1]"], ("app.example", "[::1]"), id="hosts"),
    pytest.param(ROUTE["upgrades"], ["WebSocket"], ("websocket",), id="upgrades"),
    pytest.param(ROUTE["upgrades"], [], (), id="no-upgrades"),
    pytest.param(ROUTE["paths_case"], "insensitive", "insensitive", id="paths-case"),
    pytest.param(ROUTE["trailing_slash"], "ignore", "ignore", id="trailing-slash"),
    pytest.param(ROUTE["method_override"], "X-HTTP-Method", "X-HTTP-Method", id="method-override"),
    pytest.param(ROUTE["scopes"], ["a:b", "c/d"], ("a:b", "c/d"), id="scopes"),
    pytest.param(
        ROUTE["claims"],
        {"tenant": "acme", "level": [2, 3.5], "staff": True},
        {"tenant": ("acme",), "level": (2, 3.5), "staff": (True,)},
        id="claims",
    ),
    pytest.param(ISSUER["algorithms"], ["RS256", "EdDSA"], ("RS256", "EdDSA"), id="algorithms"),
]


@pytest.mark.parametrize(("kind", "raw", "expected"), GOOD)
def test_a_value_is_read(kind: ValueKind, raw: object, expected: object) -> None:
    """Each documented form is accepted."""
    assert kind.read(raw) == expected


@pytest.mark.parametrize(("kind", "raw", "expected"), GOOD)
def test_what_is_shown_reads_back(kind: ValueKind, raw: object, expected: object) -> None:
    """A shown value is a TOML value with the same meaning."""
    if not kind.secret:
        assert kind.read(kind.show(kind.read(raw))) == expected


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        pytest.param(kinds.integer(1, 65535), "", id="integer-empty"),
        pytest.param(kinds.integer(1, 65535), 0, id="integer-under"),
        pytest.param(kinds.integer(1, 65535), 65536, id="integer-over"),
        pytest.param(kinds.integer(1, 65535), "6379.0", id="integer-float-text"),
        pytest.param(kinds.integer(1, 65535), 6379.0, id="integer-float"),
        pytest.param(kinds.integer(0, 1), True, id="integer-bool"),
        pytest.param(kinds.integer(1, 65535), "²", id="integer-other-digit"),
        pytest.param(kinds.integer(1, 65535), "9" * 5000, id="integer-endless"),
        pytest.param(kinds.size(1024, 1 << 20), "64KB", id="size-unit"),
        pytest.param(kinds.size(1024, 1 << 20), "1GiB", id="size-over"),
        pytest.param(kinds.size(0, 10), False, id="size-bool"),
        pytest.param(kinds.duration("1ms"), "0", id="duration-under"),
        pytest.param(kinds.duration("0", "60s"), "61s", id="duration-over"),
        pytest.param(kinds.duration(), "3651d", id="duration-ages"),
        pytest.param(kinds.switch(), "maybe", id="switch-word"),
        pytest.param(kinds.switch(), 1, id="switch-integer"),
        pytest.param(kinds.choice("a", "b"), "A", id="choice-case"),
        pytest.param(kinds.choice("a", "b"), [], id="choice-type"),
        pytest.param(kinds.text(), "", id="text-empty"),
        pytest.param(kinds.text(), "a\nb", id="text-lines"),
        pytest.param(kinds.text(), 5, id="text-type"),
        pytest.param(kinds.file_path(), 5, id="path-type"),
        pytest.param(kinds.hidden(), 5, id="secret-type"),
        pytest.param(net.address(), "5005", id="address-port-only"),
        pytest.param(net.address(), "0.0.0.0", id="address-no-port"),
        pytest.param(net.address(), "0.0.0.0:65536", id="address-port-over"),
        pytest.param(net.address(), "::1:80", id="address-v6-bare"),
        pytest.param(net.address(), "[::zz]:80", id="address-v6-bad"),
        pytest.param(net.address(), "a b:80", id="address-space"),
        pytest.param(net.address(), 5005, id="address-type"),
        pytest.param(net.host(), "redis:6379", id="host-with-port"),
        pytest.param(net.host(), "-x", id="host-hyphen"),
        pytest.param(net.host(), "", id="host-empty"),
        pytest.param(net.upstream(), "127.0.0.1:8080", id="upstream-no-scheme"),
        pytest.param(net.upstream(), "ftp://app", id="upstream-scheme"),
        pytest.param(net.upstream(), "http://", id="upstream-no-host"),
        pytest.param(net.upstream(), "http://app:0", id="upstream-port-zero"),
        pytest.param(net.upstream(), "http://app:70000", id="upstream-port-over"),
        pytest.param(net.upstream(), "http://app:x", id="upstream-port-text"),
        pytest.param(net.upstream(), "http://[::zz]:1", id="upstream-v6-bad"),
        pytest.param(net.upstream(), "http://app/?x=1", id="upstream-query"),
        pytest.param(net.upstream(), "http://app/base", id="upstream-path"),
        pytest.param(net.upstream(), "http://u:p@app", id="upstream-user"),
        pytest.param(net.upstream(), "http://a pp", id="upstream-space"),
        pytest.param(net.upstream(), "http://app\n", id="upstream-line-break"),
        pytest.param(net.upstream(), "unix://run/app.sock", id="unix-host"),
        pytest.param(net.upstream(), "unix:app.sock", id="unix-relative"),
        pytest.param(net.web_url(), "id.example.com/jwks", id="web-url-no-scheme"),
        pytest.param(net.web_url(), "https://id/#x", id="web-url-fragment"),
        pytest.param(net.web_url(empty=False), "", id="web-url-needed"),
        pytest.param(net.origin(), "https://app/login", id="origin-path"),
        pytest.param(net.origin(), "app.example", id="origin-no-scheme"),
        pytest.param(net.origin(), "null", id="origin-null"),
        pytest.param(net.origin(), "https://*.example", id="origin-wildcard"),
        pytest.param(kinds.command(), "/opt/token 'a", id="command-quote"),
        pytest.param(kinds.command(), ["/opt/token", 5], id="command-number"),
        pytest.param(kinds.command(), ["", "a"], id="command-empty-program"),
        pytest.param(kinds.command(), ["/opt/token", "a\0"], id="command-nul"),
        pytest.param(kinds.command(), {"a": "b"}, id="command-table"),
        pytest.param(net.redis_url(), "http://r", id="redis-scheme"),
        pytest.param(net.redis_url(), "redis://", id="redis-no-host"),
        pytest.param(net.redis_url(), "redis://r/first", id="redis-db-name"),
        pytest.param(net.redis_url(), "unix://r.sock", id="redis-unix-host"),
        pytest.param(net.networks(), "10.0.0.0/33", id="network-length"),
        pytest.param(net.networks(), "10.1.0.0/8", id="network-host-bits"),
        pytest.param(net.networks(), ["ingress"], id="network-name"),
        pytest.param(net.networks(), [5], id="network-type"),
        pytest.param(net.networks(), 5, id="networks-type"),
        pytest.param(ROUTE["path"], "x", id="path-relative"),
        pytest.param(ROUTE["path"], "", id="path-empty"),
        pytest.param(ROUTE["path"], "/x*", id="path-star-in-segment"),
        pytest.param(ROUTE["path"], "/*/x", id="path-star-inside"),
        pytest.param(ROUTE["path"], "/**", id="path-stars"),
        pytest.param(ROUTE["path"], "//x", id="path-empty-segment"),
        pytest.param(ROUTE["path"], "/x/../y", id="path-dots"),
        pytest.param(ROUTE["path"], "/./x", id="path-dot"),
        pytest.param(ROUTE["path"], "/x?y=1", id="path-query"),
        pytest.param(ROUTE["path"], "/x#y", id="path-fragment"),
        pytest.param(ROUTE["path"], "/x;y", id="path-parameter"),
        pytest.param(ROUTE["path"], "/x\\y", id="path-backslash"),
        pytest.param(ROUTE["path"], "/caf%C3%A9", id="path-escaped"),
        pytest.param(ROUTE["path"], "/x\ty", id="path-control"),
        pytest.param(ROUTE["path"], 5, id="path-number"),
        pytest.param(ROUTE["methods"], ["get"], id="method-case"),
        pytest.param(ROUTE["paths_case"], "lower", id="paths-case"),
        pytest.param(ROUTE["trailing_slash"], True, id="trailing-slash"),
        pytest.param(ROUTE["method_override"], "pass", id="method-override-without-a-name"),
        pytest.param(ROUTE["method_override"], "Authorization", id="method-override-of-another"),
        pytest.param(ROUTE["methods"], ["CONNECT"], id="method-connect"),
        pytest.param(ROUTE["methods"], [""], id="method-empty"),
        pytest.param(ROUTE["hosts"], ["app:80"], id="host-port"),
        pytest.param(ROUTE["hosts"], ["*.example"], id="host-wildcard"),
        pytest.param(ROUTE["roles"], ["a b"], id="role-space"),
        pytest.param(ROUTE["roles"], ["a,b"], id="role-comma"),
        pytest.param(ROUTE["roles"], [5], id="role-type"),
        pytest.param(ROUTE["scopes"], ['a"b'], id="scope-quote"),
        pytest.param(ROUTE["upgrades"], ["h2c"], id="upgrade-h2c"),
        pytest.param(ROUTE["upgrades"], ["web socket"], id="upgrade-space"),
        pytest.param(ROUTE["name"], "a b", id="name-space"),
        pytest.param(ROUTE["name"], "x" * 65, id="name-long"),
        pytest.param(ROUTE["name"], "default", id="name-taken"),
        pytest.param(ROUTE["access"], "pubic", id="access"),
        pytest.param(ROUTE["claims"], "tenant", id="claims-type"),
        pytest.param(ROUTE["claims"], {"tenant": []}, id="claims-no-value"),
        pytest.param(ROUTE["claims"], {"tenant": {"a": 1}}, id="claims-table"),
        pytest.param(ISSUER["algorithms"], ["HS256"], id="issuer-symmetric"),
        pytest.param(ISSUER["algorithms"], ["none"], id="issuer-none"),
        pytest.param(ISSUER["issuer"], "", id="issuer-empty"),
    ],
)
def test_a_value_is_refused(kind: ValueKind, raw: object) -> None:
    """An invalid value raises ValueError, and nothing else."""
    with pytest.raises(ValueError):  # noqa: PT011 — the message is another test's
        kind.read(raw)


@settings(max_examples=400)
@given(
    kind=st.sampled_from([*kinds_of(Settings).values(), *ROUTE.values(), *ISSUER.values()]),
    raw=st.one_of(
        st.text(max_size=20),
        st.integers(),
        st.floats(),
        st.booleans(),
        st.lists(st.one_of(st.text(max_size=5), st.integers()), max_size=3),
        st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    ),
)
def test_no_value_of_a_file_breaks_a_reader(kind: ValueKind, raw: object) -> None:
    """Any value of TOML or the environment is accepted, or raises ValueError."""
    try:
        value = kind.read(raw)
    except ValueError:
        return
    assert kind.secret or kind.read(kind.show(value)) == value


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param("x", '"x"', id="text"),
        pytest.param("a\nb", '"a�b"', id="control"),
        pytest.param("x" * 100, '"' + "x" * 59 + '…"', id="long"),
        pytest.param("http://u:p@h", '"http://…@h"', id="user-info"),
        pytest.param(True, "true", id="bool"),
        pytest.param(5, "5", id="number"),
        pytest.param({"a": 1}, "a table", id="table"),
        pytest.param([1, "a"], '[1, "a"]', id="list"),
        pytest.param([1, 2, 3, 4], "[1, 2, 3, …]", id="long-list"),
    ],
)
def test_a_problem_quotes_shortly_and_safely(raw: object, expected: str) -> None:
    """A quoted value is short, on one line, and has no user info of a URL."""
    assert shown(raw) == expected


def test_network_values_are_written_as_they_are_read() -> None:
    """Addresses and upstreams are shown in the form in which they are read."""
    assert str(Address("::", 5005)) == "[::]:5005"
    assert str(Upstream("https", "::1", 8443)) == "https://[::1]:8443"
    assert str(Upstream("unix", path="/run/app.sock")) == "unix:///run/app.sock"


def test_algorithms_are_those_of_the_keys() -> None:
    """Settings, which may not import `auth`, list the same algorithms and secret lengths."""
    assert keys.SECRET_BYTES == SECRET_BYTES
    assert {*SECRET_BYTES, *ASYMMETRIC} == keys.ALGORITHMS
