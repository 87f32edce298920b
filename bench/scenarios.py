"""The scenarios: which request is sent, and which response is expected.

Owns requests only. Must not know the proxies.
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


class Credential(StrEnum):
    """Which token is sent."""

    GOOD = "good"
    BAD = "bad"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A request that is repeated. `length` is the size of the response body, if it is known."""

    name: str
    title: str
    path: str = "/"
    method: str = "GET"
    need: Need = Need.FORWARD
    credential: Credential = Credential.GOOD
    headers: tuple[str, ...] = ()
    body_size: int = 0
    connections: int = 32
    status: int = 200
    length: int | None = None

    def header_lines(self, token: str) -> list[str]:
        """All headers to send, including the credential made from `token`."""
        if self.credential is Credential.NONE:
            return list(self.headers)
        sent = token if self.credential is Credential.GOOD else spoiled(token)
        return [f"Authorization: Bearer {sent}", *self.headers]


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

SCENARIOS = (
    Scenario("small", "small GET", length=len(SMALL_BODY)),
    Scenario("browser", "GET with a browser's 15 headers", headers=BROWSER, length=len(SMALL_BODY)),
    Scenario("10k", "10 KiB download", path="/files/10k", length=10 * KIB),
    Scenario("1m", "1 MiB download", path="/files/1m", length=MIB, connections=8),
    Scenario("upload", "POST 64 KiB", path="/sink", method="POST", body_size=64 * KIB),
    Scenario("verify", "verify subrequest", path="/auth/verify", need=Need.VERIFY),
    Scenario("no-token", "401, no token", need=Need.DENY, credential=Credential.NONE, status=401),
    Scenario(
        "bad-token", "401, bad signature", need=Need.DENY, credential=Credential.BAD, status=401
    ),
)


def spoiled(token: str) -> str:
    """`token` with a different signature of the same length."""
    head, _, signature = token.rpartition(".")
    return f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
