"""What users of identity providers report about keys: rotations, discovery, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from sidecar.auth.asymmetric import pem_key
from sidecar.auth.keys import public_jwks
from tests.auth.forge import private_key, private_pem, public_pem
from tests.peers.certificates import certificate
from tests.peers.key_server import KeyServer
from tests.peers.patience import until
from tests.peers.program import program, run
from tests.reports.report import LoneReport, Report, Rows
from tests.reports.site import ISSUER, Setup, Site, site, token

DISCOVERED: Final = '[[issuer]]\nissuer = "$keys"\naudience = "shop"\nsession_mode = "denylist"\n'
FETCHED: Final = Setup(
    f'{ISSUER}\ntoken_file = "$folder/token"\n', files=(("token", b"a-service-account-token\n"),)
)
KEPT: Final = Setup(environ=(("STATE_DIR", "$folder/state"),), own="kept")
PAIR: Final = Setup(
    environ=(
        ("JWT_PRIVATE_KEY_FILE", "$folder/new.pem"),
        ("JWT_PRIVATE_KEY_PREVIOUS_FILE", "$folder/old.pem"),
        ("SESSION_MODE", "none"),
    ),
    files=(
        ("new.pem", private_pem(private_key("ES256"))),
        ("old.pem", private_pem(private_key("ES384"))),
    ),
)


async def new_key(site: Site) -> None:
    """The first request with a key that was published a moment ago is allowed."""
    assert (await site.get("/x", token=token())).status == 200
    site.keys.publish(k1="ES256", k2="RS256")
    assert (await site.get("/x", token=token(kid="k2", alg="RS256"))).status == 200


async def made_up_kids(site: Site) -> None:
    """After five made-up kids, a new key counts within 10 s, and not after 30 s."""
    assert (await site.get("/x", token=token())).status == 200
    for number in range(5):
        fetches = site.keys.fetches
        assert not await allowed(site, token(kid=f"made-up-{number}"))
        with contextlib.suppress(TimeoutError):  # each may cause a fetch
            await until(lambda: site.keys.fetches > fetches, 0.2)  # noqa: B023 (used at once)
    site.keys.publish(k1="ES256", k2="RS256")

    async def counts() -> bool:
        await asyncio.sleep(0.1)  # so that the log stays short
        return await allowed(site, token(kid="k2", alg="RS256"))

    await until(counts, 13)


async def one_kid(site: Site) -> None:
    """Tokens of both keys under one kid are allowed."""
    keys = [private_key("RS256"), private_key("RS512")]
    published = [pem_key("-", public_pem(key), "RS256", kid="k4") for key in keys]
    documents = [json.loads(public_jwks([each]))["keys"] for each in published]

    async def publish(_: web.Request) -> web.StreamResponse:
        return web.json_response({"keys": [*documents[0], *documents[1]]})

    site.keys.answer = publish
    given = [token(kid="k4", alg="RS256", key=key) for key in keys]
    await until(lambda: allowed(site, given[0]))
    assert await allowed(site, given[1])


async def allowed(site: Site, given: str) -> bool:
    """Whether a request with this token reaches the application."""
    return (await site.get("/x", token=given)).status == 200


async def two_private_keys(site: Site) -> None:
    """Tokens that the previous private key signed still count, and both keys are published."""
    previous = {**site.environ, "JWT_PRIVATE_KEY_FILE": str(site.folder / "old.pem")}
    del previous["JWT_PRIVATE_KEY_PREVIOUS_FILE"]
    old = await run("sidecar", "token", "mint", "--sub", "alice", environ=previous)
    assert (await site.get("/x", token=old.output.strip())).status == 200
    assert len((await site.get("/.well-known/jwks.json")).json()["keys"]) == 2


async def provider_away(site: Site) -> None:
    """After a restart while the provider is away, its tokens still count."""
    given = token()
    assert (await site.get("/x", token=given)).status == 200
    site.program.child.terminate()
    await site.program.child.wait()
    await site.keys.stop()
    async with program(site.folder, site.environ) as again:
        site.program = again
        assert (await site.get("/x", token=given)).status == 200


async def rfc_9864(site: Site) -> None:
    """A key set and a token that say Ed25519 instead of EdDSA are understood."""
    site.keys.publish(k3="Ed25519")
    given = token(kid="k3", alg="Ed25519")
    assert (await site.get("/x", token=given)).status == 200


@dataclass(frozen=True, slots=True)
class Discovered:
    """The keys of an issuer are found by its metadata at this path."""

    path: str

    async def __call__(self, site: Site) -> None:
        """Publish the metadata, and use a token."""
        issuer = site.keys.origin
        site.keys.metadata = {self.path: {"issuer": issuer, "jwks_uri": site.keys.url}}
        await until(lambda: allowed(site, token(iss=issuer)))


async def fetched_with_a_token(site: Site) -> None:
    """Keys are fetched with the bearer token of the file, without its line break."""
    assert (await site.get("/x", token=token())).status == 200
    sent = [each.headers.get("Authorization") for each in site.keys.requests]
    assert set(sent) == {"Bearer a-service-account-token"}


async def private_authority() -> None:
    """Keys are fetched from a server whose certificate only the file of the issuer vouches for."""
    with tempfile.TemporaryDirectory() as folder:
        file = certificate(Path(folder), "localhost")
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(file)
        async with KeyServer(tls) as server:
            server.publish(k1="ES256")
            tables = f'{ISSUER.replace("$keys/keys", server.url)}ca_file = "{file}"\n'
            async with site(Setup(tables)) as running:
                assert await allowed(running, token())


KEYS: Final[Rows] = (
    Report("new-key", "each key rotation refuses some requests", new_key, Setup(own="new-key")),
    Report(
        "made-up-kids",
        "somebody's made-up kids delay a rotation by half a minute",
        made_up_kids,
        Setup(own="made-up"),
    ),
    Report("one-kid", "a provider has two keys under one kid", one_kid, Setup(own="one-kid")),
    Report("two-private-keys", "rotating our private key logs all out", two_private_keys, PAIR),
    Report("provider-away", "no start without the identity provider", provider_away, KEPT),
    Report("ed25519", "tokens with alg Ed25519 are refused", rfc_9864, Setup(own="ed25519")),
    Report(
        "discovery-openid",
        "why must I look up jwks_url myself?",
        Discovered("/.well-known/openid-configuration"),
        Setup(DISCOVERED, own="openid"),
    ),
    Report(
        "discovery-oauth",
        "the same, where the provider has no OpenID Connect",
        Discovered("/.well-known/oauth-authorization-server"),
        Setup(DISCOVERED, own="oauth"),
    ),
    LoneReport(
        "key-authority", "the provider's certificate is of our own authority", private_authority
    ),
    Report("key-token", "Kubernetes' keys want a token", fetched_with_a_token, FETCHED),
)
