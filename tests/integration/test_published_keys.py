"""A whole sidecar that trusts an issuer by the keys at its URL, while these change or are away."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from sidecar.app.sidecar import Sidecar
from sidecar.issuers.jwks_fetch import REFETCH_BURST
from sidecar.settings.model import IssuerSettings
from tests.auth import forge
from tests.peers.key_server import KeyServer
from tests.peers.patience import until
from tests.peers.raw_client import build
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import ISSUER, Stack, configure, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FOREIGN = "https://id.example"
UNKNOWN = 'sidecar_decisions_total{decision="deny",reason="key_unknown"}'


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    """A key server with one key of each of two kinds."""
    async with KeyServer() as running:
        running.publish(rsa="RS256", ed="EdDSA")
        yield running


@contextlib.asynccontextmanager
async def believing(server: KeyServer, folder: Path, **changed: Any) -> AsyncIterator[Stack]:
    """Run a sidecar that accepts a foreign issuer's tokens without a session."""
    async with ScriptedUpstream() as upstream:
        settings = structs.replace(
            configure(folder, upstream.url),
            issuer=(
                IssuerSettings(
                    issuer=FOREIGN, audience=ISSUER, jwks_url=server.url, session_mode="none"
                ),
            ),
            **changed,
        )
        sidecar = Sidecar(settings)
        await sidecar.start()
        try:
            yield Stack(sidecar, settings)
        finally:
            await sidecar.stop()


@pytest.fixture
async def sidecar(server: KeyServer, tmp_path: Path) -> AsyncIterator[Stack]:
    """Such a sidecar in front of an application that always answers."""
    async with believing(server, tmp_path) as running:
        yield running


def token(alg: str, kid: str, issuer: str = FOREIGN) -> str:
    """Return a token of this issuer, signed with its key for the algorithm."""
    now = int(time.time())
    claims = {"iss": issuer, "aud": ISSUER, "iat": now, "nbf": now, "exp": now + 300}
    return forge.token(claims, {"kid": kid}, alg=alg).decode()


async def status(sidecar: Stack, shown: str, target: str = "/") -> int:
    """Return the status of a request with this token."""
    return (await sidecar.get(target, token=shown)).status


@pytest.mark.parametrize(("alg", "kid"), [("RS256", "rsa"), ("EdDSA", "ed")])
async def test_let_in(sidecar: Stack, alg: str, kid: str) -> None:
    """A token with a valid signature is accepted, one signed with another key is not."""
    assert await status(sidecar, token(alg, kid)) == 200
    assert await status(sidecar, token("ES256", kid)) == 401
    assert await status(sidecar, token(alg, kid)[:-8] + "AAAAAAAA") == 401


@pytest.mark.parametrize("target", ["/", "/auth/verify", "/auth/userinfo"])
async def test_rotated_in(sidecar: Stack, server: KeyServer, target: str) -> None:
    """The first requests with a new key wait for one fetch of it."""
    server.publish(rsa="RS256", new="ES256")
    new = token("ES256", "new")
    shown = await asyncio.gather(*(status(sidecar, new, target) for _ in range(16)))
    assert shown == [200] * 16
    assert server.fetches == 2


async def test_logging_out_with_a_new_key(sidecar: Stack, server: KeyServer) -> None:
    """A logout with a token of a new key waits for the key, too."""
    server.publish(rsa="RS256", new="ES256")
    header = f"Authorization: Bearer {token('ES256', 'new')}"
    assert (await sidecar.ask(build("POST", "/auth/logout", header))).status == 204


async def test_a_reload_while_requests_wait(sidecar: Stack, server: KeyServer) -> None:
    """Requests that wait for a fetch are decided on by the keys that a reload has fetched."""
    hangs = server.hang()
    waiting = asyncio.create_task(status(sidecar, token("ES256", "new")))
    await hangs.wait()
    server.publish(new="ES256")
    await sidecar.sidecar.reload(sidecar.settings)
    assert await waiting == 200


async def test_taken_out(sidecar: Stack, server: KeyServer) -> None:
    """A removed key is rejected, even for tokens that were verified before."""
    old = token("RS256", "rsa")
    assert await status(sidecar, old) == 200
    server.publish(ed="EdDSA")
    assert await status(sidecar, token("RS256", "unknown")) == 401  # which causes a fetch
    assert await status(sidecar, old) == 401
    assert await status(sidecar, token("EdDSA", "ed")) == 200


@pytest.mark.parametrize("target", ["/", "/auth/userinfo"])
async def test_many_unknown_keys(sidecar: Stack, server: KeyServer, target: str) -> None:
    """Unknown key ids are denied and cause only a bounded number of fetches."""
    for number in range(60):
        assert await status(sidecar, token("RS256", f"made-up-{number}"), target) == 401
    assert await sidecar.metric(UNKNOWN) == 60
    await until(lambda: server.fetches > 1)
    assert server.fetches <= 1 + REFETCH_BURST
    assert await status(sidecar, token("RS256", "rsa")) == 200


async def test_away_during_a_reload(server: KeyServer, tmp_path: Path) -> None:
    """The keys in use stay, although an older copy of them is in the folder: the disk was full."""
    kept = tmp_path / "state" / "keys"
    async with believing(server, tmp_path, state_dir=str(tmp_path / "state")) as sidecar:
        (file,) = kept.iterdir()
        older = file.read_bytes()
        server.publish(new="ES256")
        await sidecar.sidecar.reload(sidecar.settings)
        new, old = token("ES256", "new"), token("EdDSA", "ed")
        assert [await status(sidecar, each) for each in (new, old)] == [200, 401]
        file.write_bytes(older)
        await server.stop()
        await sidecar.sidecar.reload(sidecar.settings)
        assert [await status(sidecar, each) for each in (new, old)] == [200, 401]
    async with believing(server, tmp_path, state_dir=str(tmp_path / "state")) as later:
        assert [await status(later, each) for each in (new, old)] == [401, 200]
        await later.sidecar.reload(later.settings)
        assert await status(later, old) == 200


async def test_away_at_start(server: KeyServer, tmp_path: Path) -> None:
    """While its keys cannot be fetched at startup, only that issuer's tokens are denied."""
    await server.stop()
    async with believing(server, tmp_path) as sidecar:
        foreign = token("EdDSA", "ed")
        assert await status(sidecar, foreign) == 401
        assert await sidecar.metric(UNKNOWN) == 1
        own = await sidecar.login()
        assert await status(sidecar, own.access) == 200
        await server.begin()

        async def is_known() -> bool:
            return await status(sidecar, foreign) == 200

        await until(is_known)
        assert await status(sidecar, own.access) == 200


async def test_own_issuer(server: KeyServer) -> None:
    """`jwks_url` adds to the sidecar's own keys: tokens signed by either are accepted."""
    async with (
        ScriptedUpstream() as upstream,
        stack(upstream.url, jwks_url=server.url, session_mode="none") as sidecar,
    ):
        own = await sidecar.login()
        assert await status(sidecar, token("RS256", "rsa", ISSUER)) == 200
        assert await status(sidecar, own.access) == 200
        server.publish(new="EdDSA")
        assert await status(sidecar, token("RS256", "unknown", ISSUER)) == 401
        assert server.fetches == 2
        assert await status(sidecar, token("EdDSA", "new", ISSUER)) == 200
        assert await status(sidecar, own.access) == 200
        body = f'{{"refresh_token": "{own.refresh}"}}'.encode()
        request = build("POST", "/auth/refresh", "Content-Type: application/json", body=body)
        assert (await sidecar.ask(request)).status == 200


async def test_made_up_keys_of_a_silent_issuer(sidecar: Stack, server: KeyServer) -> None:
    """Requests that wait for a silent issuer block neither the application nor the sign-in."""
    hangs = server.hang()
    targets = ["/", "/auth/userinfo"] * 100
    waiting = [
        asyncio.create_task(status(sidecar, token("RS256", f"made-up-{number}"), target))
        for number, target in enumerate(targets)
    ]
    await hangs.wait()
    own = await sidecar.login()
    assert await status(sidecar, own.access) == 200
    _, held = await asyncio.wait(waiting, timeout=0)
    assert held
    assert await asyncio.gather(*waiting) == [401] * 200
    assert server.fetches == 2
