"""Bad tokens through the whole proxy: all get the same 401, and none reaches the upstream.

RFC 8725. The verifier's own tests cover the details. Sessions are off here, so the token alone
decides.
"""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.peers.raw_client import build
from tests.peers.stack import REFRESH_SECRET, Stack, mint, stack
from tests.proxy.challenges import challenge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.scripted_upstream import ScriptedUpstream

NOW = int(time.time())


@pytest.fixture
async def guarded(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar for which a valid signature is enough."""
    async with stack(upstream.url, session_mode="none", jwt_leeway="0s") as running:
        yield running


def resign(part: int, change: Any) -> str:
    """Return a good token with the text of one part changed."""
    parts = mint().split(".")
    parts[part] = change(parts[part])
    return ".".join(parts)


def b64(text: str) -> str:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


async def test_good_token_passes(upstream: ScriptedUpstream, guarded: Stack) -> None:
    """The token that all the bad ones are derived from is accepted."""
    assert (await guarded.get("/", token=mint("bob"))).status == 200
    assert (await upstream.arrived()).fields.one("x-auth-user") == b"bob"


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(mint(exp=NOW - 60), id="expired"),
        pytest.param(mint(nbf=NOW + 3600), id="not-yet-valid"),
        pytest.param(mint(iss="someone-else"), id="issuer"),
        pytest.param(mint(iss="auth-sidecar2"), id="issuer-prefix"),
        pytest.param(mint(iss=["auth-sidecar"]), id="issuer-list"),
        pytest.param(mint(aud="someone-else"), id="audience"),
        pytest.param(mint(without=["aud"]), id="no-audience"),
        pytest.param(mint(without=["iss"]), id="no-issuer"),
        pytest.param(mint(without=["exp"]), id="no-expiry"),
        pytest.param(mint(without=["sub"]), id="no-subject"),
        pytest.param(mint(exp="9999999999"), id="expiry-text"),
        pytest.param(mint(exp=True), id="expiry-true"),
        pytest.param(mint(exp=float("inf")), id="expiry-infinite"),
        pytest.param(mint(exp=10**400), id="expiry-400-digits"),
        pytest.param(mint(sub=7), id="subject-number"),
        pytest.param(mint(sub="a\r\nX-Auth-Roles: admin"), id="subject-with-crlf"),
        pytest.param(mint(sub="a\0b"), id="subject-with-nul"),
        pytest.param(mint(secret="x" * 40), id="other-secret"),
        pytest.param(mint(secret=REFRESH_SECRET), id="refresh-secret"),
        pytest.param(mint(algorithm="HS512"), id="other-algorithm"),
        pytest.param(mint(algorithm="none"), id="algorithm-none"),
        pytest.param(mint(headers={"typ": "refresh+jwt"}), id="refresh-type"),
        pytest.param(mint(headers={"crit": ["x"], "x": 1}), id="crit"),
        pytest.param(mint(headers={"kid": "../../etc/passwd"}), id="kid-unknown"),
        pytest.param(resign(2, lambda part: part[:-4]), id="signature-short"),
        pytest.param(resign(2, lambda _: ""), id="signature-empty"),
        pytest.param(resign(2, lambda part: part + "="), id="signature-padded"),
        pytest.param(resign(2, lambda part: "AA" + part[2:]), id="signature-changed"),
        pytest.param(resign(1, lambda _: b64('{"sub":"root"}')), id="claims-swapped"),
        pytest.param(resign(0, lambda _: b64('{"alg":"none"}')), id="header-swapped"),
        pytest.param(mint() + ".x", id="four-parts"),
        pytest.param(mint().rpartition(".")[0], id="two-parts"),
        pytest.param("..", id="dots"),
        pytest.param("abc", id="word"),
        pytest.param(mint(pad="x" * 17_000), id="too-long"),
    ],
)
async def test_bad_token_is_refused(upstream: ScriptedUpstream, guarded: Stack, token: str) -> None:
    """Every fault gets the same 401 with `invalid_token` and no detail, cached or not."""
    control = await guarded.get("/", token="a.b.c")
    for _ in range(2):
        answer = await guarded.get("/", token=token)
        assert answer.status == 401
        assert challenge(answer).pop("error") == "invalid_token"
        assert set(challenge(answer)) <= {"realm", "error"}
        ids = [found.fields.one("x-request-id") for found in (answer, control)]
        assert answer.body.replace(ids[0], b"") == control.body.replace(ids[1], b"")
    assert upstream.requests == []


async def test_token_that_expires_while_cached(upstream: ScriptedUpstream, guarded: Stack) -> None:
    """A cached token is denied once it has expired."""
    token = mint(exp=time.time() + 0.3)
    async with guarded.client() as client:
        assert (await client.ask(build("GET", "/", token=token))).status == 200
        async with guarded.client() as other:
            await other.silence(0.35)
        assert (await client.ask(build("GET", "/", token=token))).status == 401


async def test_minted_token_without_a_session(upstream: ScriptedUpstream) -> None:
    """By default a valid signature is not enough: the token needs a live session."""
    async with stack(upstream.url) as guarded:
        answer = await guarded.get("/", token=mint())
        assert (answer.status, challenge(answer)["error"]) == (401, "invalid_token")
        refresh = (await guarded.login()).refresh
        assert (await guarded.get("/", token=refresh)).status == 401
    assert upstream.requests == []
