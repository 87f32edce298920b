"""The scenarios: which requests are sent, and which responses are expected.

Owns their list. Must not know the proxies, or how requests are put together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

KIB = 1024
MIB = 1024 * KIB
SMALL_BODY = b"hello from upstream\n"


class Need(StrEnum):
    """The ability that a proxy must have for a scenario."""

    FORWARD = "forward"
    DENY = "deny"
    VERIFY = "verify"
    LOGIN = "login"
    CROWD = "crowd"  # thousands of open connections
    RATE = "rate"  # the load of the fastest proxies


class Setup(StrEnum):
    """What a proxy must be set up for. Each setup of a proxy is a process of its own."""

    SESSIONS = "sessions"  # HS256 tokens, each with a session where the proxy has sessions
    STATELESS = "stateless"  # any HS256 token with a good signature that was not revoked
    RS256 = "rs256"  # the same for RS256 tokens of another issuer
    TLS = "tls"  # as SESSIONS, on a listener with TLS


class Kind(StrEnum):
    """How the load is made."""

    REPLAY = "replay"  # one request, again and again
    MIXED = "mixed"  # no two requests alike, until the time is over
    ONCE = "once"  # no two requests alike, and each credential once: a fixed number of requests
    RATE = "rate"  # as MIXED, but at a fixed rate
    HANDSHAKES = "handshakes"  # as MIXED, each on a new TLS connection: a fixed number


class Credential(StrEnum):
    """What a request shows."""

    GOOD = "good"
    NONE = "none"
    FORGED = "forged"  # a known user's token with another signature in each request
    EXPIRED = "expired"
    FRESH = "fresh"  # a good token that was never used before
    PASSWORD = "password"  # in the body of a login
    REFRESH = "refresh"  # a refresh token, in the body


@dataclass(frozen=True, slots=True)
class Scenario:
    """Requests and the response to each of them.

    `count` is the number of requests in a burst of a kind that has a fixed one. `idle` connections
    are open beside the `connections` that are used. `length` is the size of the response body, if
    it is known.
    """

    name: str
    title: str
    kind: Kind = Kind.REPLAY
    path: str = "/"
    method: str = "GET"
    need: Need = Need.FORWARD
    setup: Setup = Setup.SESSIONS
    credential: Credential = Credential.GOOD
    headers: tuple[str, ...] = ()
    body_size: int = 0
    connections: int = 32
    idle: int = 0
    count: int = 0
    status: int = 200
    length: int | None = None

    @property
    def denied(self) -> bool:
        """Whether the expected response is a refusal."""
        return self.status >= 400


# What Chrome sends for a fetch() of a page; fifteen headers with Host and Authorization.
BROWSER = (
    "Connection: keep-alive",
    'sec-ch-ua: "Chromium";v="130", "Google Chrome";v="130", "Not?A_Brand";v="99"',
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"',
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0.0.0 Safari/537.36",
    "Accept: application/json, text/plain, */*",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: cors",
    "Sec-Fetch-Dest: empty",
    "Referer: https://shop.example.com/orders?page=2",
    "Cookie: theme=dark; _ga=GA1.1.1836284501.1712345678; consent=yes",
)


def denial(name: str, title: str, credential: Credential) -> Scenario:
    """A scenario of requests that are refused, no two alike."""
    return Scenario(name, title, Kind.MIXED, need=Need.DENY, credential=credential, status=401)


def fresh(name: str, title: str, setup: Setup, count: int) -> Scenario:
    """A scenario in which every token is seen for the first time."""
    return Scenario(
        name,
        title,
        Kind.ONCE,
        need=Need.DENY,  # for proxies that check tokens
        setup=setup,
        credential=Credential.FRESH,
        count=count,
        length=len(SMALL_BODY),
    )


MIXED = Scenario("mixed", "no two requests alike", Kind.MIXED, length=len(SMALL_BODY))
SMALL = Scenario("small", "small GET, replayed", length=len(SMALL_BODY))

SCENARIOS = (
    MIXED,
    Scenario(
        "verify-mixed",
        "verify subrequest, no two alike",
        Kind.MIXED,
        path="/auth/verify",
        need=Need.VERIFY,
    ),
    denial("no-token", "401, no token, no two requests alike", Credential.NONE),
    denial("forged", "401, forged signatures, no two alike", Credential.FORGED),
    denial("expired", "401, expired tokens, no two requests alike", Credential.EXPIRED),
    fresh("fresh-hs256", "each token seen for the first time, HS256", Setup.STATELESS, 10_000),
    fresh("fresh-rs256", "each token seen for the first time, RS256", Setup.RS256, 3_000),
    Scenario(
        "half-load",
        "latency at half of the load that the slower of sidecar and HAProxy can take",
        Kind.RATE,
        need=Need.RATE,
        length=len(SMALL_BODY),
    ),
    Scenario(
        "login",
        "login, with a password hash that costs nothing",
        Kind.ONCE,
        path="/auth/login",
        method="POST",
        need=Need.LOGIN,
        credential=Credential.PASSWORD,
        count=1_000,
    ),
    Scenario(
        "refresh",
        "refresh",
        Kind.ONCE,
        path="/auth/refresh",
        method="POST",
        need=Need.LOGIN,
        credential=Credential.REFRESH,
        count=500,
    ),
    Scenario(
        "tls",
        "TLS, no two requests alike",
        Kind.MIXED,
        setup=Setup.TLS,
        length=len(SMALL_BODY),
    ),
    Scenario(
        "tls-connections",
        "TLS, a new connection and a full handshake for each request",
        Kind.HANDSHAKES,
        setup=Setup.TLS,
        connections=8,
        count=400,
        length=len(SMALL_BODY),
    ),
    Scenario(
        "crowd",
        "10,000 connections, 1 % of them active, no two requests alike",
        Kind.MIXED,
        need=Need.CROWD,
        connections=100,
        idle=9_900,
        length=len(SMALL_BODY),
    ),
    SMALL,
    Scenario(
        "browser",
        "GET with a browser's 15 headers, replayed",
        headers=BROWSER,
        length=len(SMALL_BODY),
    ),
    Scenario("10k", "10 KiB download", path="/files/10k", length=10 * KIB),
    Scenario("1m", "1 MiB download", path="/files/1m", length=MIB, connections=8),
    Scenario("upload", "POST 64 KiB", path="/sink", method="POST", body_size=64 * KIB),
    Scenario("verify", "verify subrequest, replayed", path="/auth/verify", need=Need.VERIFY),
)


def spoiled(token: str) -> str:
    """`token` with a different signature of the same length."""
    head, _, signature = token.rpartition(".")
    return f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
