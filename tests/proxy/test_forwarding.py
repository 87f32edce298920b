"""Which parts of a request and its answer pass unchanged, and which are removed or added.

RFC 9110 sections 7.6 and 5.3; RFC 7239.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.peers.raw_client import build
from tests.peers.scripted_upstream import reply
from tests.peers.stack import PUBLIC, Stack, stack

if TYPE_CHECKING:
    from tests.peers.http_text import Fields
    from tests.peers.scripted_upstream import ScriptedUpstream

TRUSTING = ["127.0.0.0/8"]


def in_order(wanted: list[bytes], fields: Fields) -> bool:
    """Return whether these header lines occur in this order, possibly with others in between."""
    lines = iter([name + b": " + value for name, value in fields.items])
    return all(any(line == found for found in lines) for line in wanted)


@pytest.mark.parametrize(
    ("method", "body"),
    [
        pytest.param("GET", None, id="get"),
        pytest.param("HEAD", None, id="head"),
        pytest.param("OPTIONS", None, id="options"),
        pytest.param("DELETE", None, id="delete"),
        pytest.param("DELETE", b"why", id="delete-with-body"),
        pytest.param("GET", b"query", id="get-with-body"),
        pytest.param("POST", b"a=1", id="post"),
        pytest.param("POST", b"", id="post-empty"),
        pytest.param("PUT", b"\x00\r\n\r\nGET / HTTP/1.1\r\n\r\n", id="put"),
        pytest.param("PATCH", b"{}", id="patch"),
        pytest.param("PROPFIND", None, id="propfind"),
    ],
)
async def test_method_and_body_pass(
    upstream: ScriptedUpstream, proxy: Stack, method: str, body: bytes | None
) -> None:
    """Each method reaches the upstream with its body, and the answer reaches the client."""
    answer = await proxy.ask(build(method, "/thing", body=body))
    assert (answer.status, answer.reason) == (200, b"OK")
    assert answer.body == (b"" if method == "HEAD" else b"ok")
    seen = await upstream.arrived()
    assert seen.line == f"{method} /thing HTTP/1.1".encode()
    assert seen.body == (body or b"")


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/", id="root"),
        pytest.param("/?", id="empty-query"),
        pytest.param("/p?a=%2F..%2f&b=a+b&&c=%E2%82%AC&=&d", id="escapes"),
        pytest.param("/p?x=%2e%2e%2f%00", id="escapes-of-dots-and-nul"),
        pytest.param("/p?/:@!$'()*,;=~?[]", id="punctuation"),
        pytest.param("/p?next=https://example.org/?q=1", id="url-in-query"),
        pytest.param("/a%20b/%E2%82%AC", id="escaped-path"),
        pytest.param("/a/b:v=1,2/@me/(x)!$&'*+=~", id="path-punctuation"),
        pytest.param("/dir/", id="trailing-slash"),
        pytest.param("/p?" + "q" * 8000, id="long-query"),
    ],
)
async def test_target_passes_byte_for_byte(
    upstream: ScriptedUpstream, proxy: Stack, target: str
) -> None:
    """Path and query reach the upstream exactly as the client sent them."""
    assert (await proxy.get(target)).status == 200
    assert (await upstream.arrived()).target == target.encode()


async def test_request_headers_keep_bytes_and_order(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """End-to-end request headers keep their case, octets, order and repetitions."""
    lines = ["x-LOWer: a  b", "Accept: */*", "X-Empty: ", "Cookie: a=1", "x-lower: 2", 'Q: "\xe9"']
    await proxy.get("/", *lines)
    wanted = [line.encode("latin-1") for line in lines]
    assert in_order(wanted, (await upstream.arrived()).fields)


async def test_response_passes_unchanged(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """Status, reason, header octets and order reach the client as the upstream sent them."""
    lines = [
        "x-Odd-CASE: a  b",
        "Set-Cookie: a=1",
        "X-Empty: ",
        "Set-Cookie: b=2",
        "ETag: \xe9\xff",
    ]
    upstream.scripts = [[reply(b"tea", "418 I'm a (tea)pot \xe9", *lines, "Server: thing/1")]]
    answer = await proxy.get("/")
    assert (answer.status, answer.reason) == (418, b"I'm a (tea)pot \xe9")
    wanted = [line.encode("latin-1") for line in (*lines, "Server: thing/1", "Content-Length: 3")]
    assert in_order(wanted, answer.fields)
    assert answer.body == b"tea"


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(s, id=s.replace(" ", "-") or "empty")
        for s in ("200 ", "201 Created", "299 Odd", "302 Found", "404 Not Found", "500 Oh", "599 x")
    ],
)
async def test_any_status_passes(upstream: ScriptedUpstream, proxy: Stack, status: str) -> None:
    """Every final status passes with its reason phrase, even if the phrase is empty."""
    upstream.scripts = [[reply(b"x", status)]]
    answer = await proxy.get("/")
    assert f"{answer.status} {answer.reason.decode()}" == status


async def test_authorization_and_cookie_are_kept(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """The upstream receives the client's own Authorization and Cookie headers."""
    await proxy.get("/", "Authorization: Basic YTpi", "Cookie: a=1; b=2")
    seen = await upstream.arrived()
    assert seen.fields.one("authorization") == b"Basic YTpi"
    assert seen.fields.one("cookie") == b"a=1; b=2"


async def test_hop_by_hop_request_headers_are_removed(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """Hop-by-hop headers and those named in Connection do not reach the upstream."""
    await proxy.get(
        "/",
        "Connection: keep-alive, X-Named",
        "Connection: x-also-named",
        "X-Named: 1",
        "X-Also-Named: 1",
        "X-Kept: 1",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic x",
        "TE: trailers",
        "Upgrade: irc/6.9",
    )
    names = {name.lower() for name in (await upstream.arrived()).fields.names()}
    gone = {b"x-named", b"x-also-named", b"keep-alive", b"proxy-connection"}
    assert not names & (gone | {b"proxy-authorization", b"te", b"upgrade"})
    assert b"x-kept" in names


async def test_hop_by_hop_response_headers_are_removed(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """The upstream's hop-by-hop headers and those named in Connection do not reach the client."""
    upstream.scripts = [
        [
            reply(
                b"x",
                "200 OK",
                "Connection: keep-alive, X-Named",
                "X-Named: 1",
                "Keep-Alive: timeout=5",
                "Proxy-Connection: x",
                "Upgrade: h2c",
                "X-Kept: 1",
            )
        ]
    ]
    answer = await proxy.get("/")
    for name in ("x-named", "keep-alive", "proxy-connection", "upgrade"):
        assert name not in answer.fields
    assert "x-kept" in answer.fields


@pytest.mark.parametrize("named", ["Host", "Content-Length", "Via", "X-Forwarded-For", "Cookie"])
async def test_connection_cannot_take_out_what_matters(
    upstream: ScriptedUpstream, proxy: Stack, named: str
) -> None:
    """Naming a header in Connection breaks neither the framing nor the sidecar's own headers."""
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await proxy.ask(build("POST", "/", f"Connection: close, {named}", body=body))
    if answer.status == 400:
        assert upstream.requests == []
        return
    seen = await upstream.arrived()
    assert seen.body == body
    assert seen.fields.one("host") == b"sidecar.test"
    assert b"sidecar" in seen.fields.all("via")[-1]
    assert seen.fields.one("x-forwarded-for") == b"127.0.0.1"
    assert len(upstream.requests) == 1


FORWARDED = (
    "X-Forwarded-For: 203.0.113.9",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: shop.example",
    "Forwarded: for=203.0.113.9;proto=https;host=shop.example",
)


async def test_forwarded_headers_of_strangers_are_replaced(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """An untrusted client's forwarded headers are replaced by what the sidecar itself saw."""
    variants = ("X_Forwarded_For: 6.6.6.6", "x-forwarded_proto: https", "X-Forwarded-Prefix: /x")
    others = ("X-Forwarded-User: root", "X-Forwarded-Port: 1", "X-Forwarded-Uri: /open")
    await proxy.get("/", *FORWARDED, *variants, *others)
    fields = (await upstream.arrived()).fields
    assert fields.one("x-forwarded-for") == b"127.0.0.1"
    assert fields.one("x-forwarded-proto") == b"http"
    assert fields.one("x-forwarded-host") == b"sidecar.test"
    elements = {part.strip().lower() for part in fields.one("forwarded").split(b";")}
    assert elements >= {b"for=127.0.0.1", b"proto=http"}
    assert b"203.0.113.9" not in fields.one("forwarded")
    names = [name.lower().replace(b"_", b"-") for name in fields.names()]
    for name in (b"x-forwarded-prefix", b"x-forwarded-user", b"x-forwarded-uri"):
        assert name not in names
    assert names.count(b"x-forwarded-for") == names.count(b"x-forwarded-proto") == 1


async def test_forwarded_headers_of_trusted_proxies_are_kept(upstream: ScriptedUpstream) -> None:
    """A trusted proxy's forwarded headers are kept, and the sidecar's own hop is appended."""
    async with stack(upstream.url, routes=PUBLIC, trusted_proxies=TRUSTING) as proxy:
        await proxy.get("/", *FORWARDED)
    fields = (await upstream.arrived()).fields
    hops = [hop.strip() for hop in b",".join(fields.all("x-forwarded-for")).split(b",")]
    assert hops == [b"203.0.113.9", b"127.0.0.1"]
    assert fields.one("x-forwarded-proto") == b"https"
    assert fields.one("x-forwarded-host") == b"shop.example"
    forwarded = [hop.strip() for hop in b",".join(fields.all("forwarded")).split(b",")]
    assert forwarded[0] == b"for=203.0.113.9;proto=https;host=shop.example"
    assert b"for=127.0.0.1" in forwarded[1].lower()
    assert len(forwarded) == 2


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        pytest.param(["X-Forwarded-For: 198.51.100.66, 203.0.113.9, 127.0.0.2"], "203.0.113.9"),
        pytest.param(["Forwarded: for=198.51.100.66, for=203.0.113.9"], "203.0.113.9"),
        pytest.param(["X-Real-IP: 203.0.113.9"], "127.0.0.1"),
        pytest.param(["X-Forwarded-For: 2001:db8::1"], "2001:db8::1"),
    ],
    ids=["list", "forwarded", "real-ip-alone", "ipv6"],
)
async def test_the_access_log_names_the_client_that_limits_use(
    upstream: ScriptedUpstream, capfd: pytest.CaptureFixture[str], lines: list[str], client: str
) -> None:
    """Nobody can write another address into the log than the trusted proxies report."""
    async with stack(
        upstream.url, routes=PUBLIC, trusted_proxies=["127.0.0.0/8"], access_log="all"
    ) as proxy:
        assert (await proxy.get("/", *lines)).status == 200
    written = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [each["client"] for each in written if each["logger"] == "access"] == [client]


async def test_underscored_forwarded_headers_are_never_trusted(upstream: ScriptedUpstream) -> None:
    """`X_Forwarded_For` is removed even from a trusted proxy: a backend may fold it to dashes."""
    async with stack(upstream.url, routes=PUBLIC, trusted_proxies=TRUSTING) as proxy:
        await proxy.get("/", "X_Forwarded_For: 6.6.6.6", "x_forwarded_host: evil.example")
    fields = (await upstream.arrived()).fields
    assert not [name for name in fields.names() if b"_" in name]
    assert fields.one("x-forwarded-for") == b"127.0.0.1"


async def test_via_is_added_and_kept(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """Via keeps earlier hops and appends this one with the client's protocol version (7.6.3)."""
    await proxy.get("/", "Via: 1.1 edge")
    await proxy.ask(build("GET", "/", version="1.0"))
    members = (await upstream.arrived(1)).fields.members("via")
    assert members[0] == b"1.1 edge"
    assert len(members) == 2
    assert members[1].startswith(b"1.1 ")
    assert (await upstream.arrived(2)).fields.members("via")[0].startswith(b"1.0 ")


async def test_request_id_is_made(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """A request without an id gets a new one, which upstream and client both receive."""
    ids = [(await proxy.get("/")).fields.one("x-request-id") for _ in range(2)]
    assert ids == [seen.fields.one("x-request-id") for seen in upstream.requests]
    assert ids[0] != ids[1]
    assert len(ids[0]) >= 16


async def test_request_id_is_accepted(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """A client's well-formed request id is kept as it is."""
    answer = await proxy.get("/", "X-Request-Id: 4bf92f35-77b3.a_1")
    assert answer.fields.one("x-request-id") == b"4bf92f35-77b3.a_1"
    assert (await upstream.arrived()).fields.one("x-request-id") == b"4bf92f35-77b3.a_1"


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("X-Request-Id: " + "a" * 1000,), id="too-long"),
        pytest.param(("X-Request-Id: ",), id="empty"),
        pytest.param(('X-Request-Id: {"level":"error"}',), id="json"),
        pytest.param(("X-Request-Id: <b>",), id="markup"),
        pytest.param(("X-Request-Id: \xe9",), id="not-ascii"),
        pytest.param(("X-Request-Id: one", "X-Request-Id: two"), id="repeated"),
    ],
)
async def test_unfit_request_id_is_replaced(
    upstream: ScriptedUpstream, proxy: Stack, lines: tuple[str, ...]
) -> None:
    """A request id that could harm a log is replaced; there is always exactly one."""
    answer = await proxy.get("/", *lines)
    if answer.status == 400:
        return
    sent = {line.partition(": ")[2].encode("latin-1") for line in lines}
    made = (await upstream.arrived()).fields.one("x-request-id")
    assert made == answer.fields.one("x-request-id")
    assert len(lines) > 1 or made not in sent
    assert 0 < len(made) <= 200


async def test_absolute_form_overrides_host(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """An absolute-form target is forwarded in origin-form with its authority as Host (3.2.2)."""
    answer = await proxy.ask(
        build("GET", "http://shop.example:8080/a?b=c", host="Shop.example:8080")
    )
    assert answer.status == 200
    seen = await upstream.arrived()
    assert seen.target == b"/a?b=c"
    assert seen.fields.one("host") == b"shop.example:8080"


async def test_absolute_form_may_not_contradict_host(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """A request whose absolute-form target and Host disagree gets a 400."""
    answer = await proxy.ask(build("GET", "http://shop.example/", host="other.example"))
    assert answer.status == 400
    assert not upstream.requests


async def test_host_is_kept(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """The upstream receives the client's Host header unchanged and only once."""
    await proxy.ask(build("GET", "/", host="Shop.Example:8443"))
    assert (await upstream.arrived()).fields.one("host") == b"Shop.Example:8443"
