"""Users of other issuers at a real sidecar: which tokens count, and whose users they are."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import structs

from sidecar.app.sidecar import Sidecar
from sidecar.settings.model import IssuerSettings
from tests.auth import forge
from tests.auth.providers import ACCESS_TOKENS, ID_TOKENS, OTHER_TOKENS, Issued
from tests.peers.key_server import KeyServer
from tests.peers.patience import until
from tests.peers.raw_client import build
from tests.peers.redis_server import RedisServer
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import ISSUER, PUBLIC, User, configure, loop_faults, stack
from tests.peers.stack import Stack as Running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

HERE: Final = "https://id.example"
THERE: Final = "https://id.other.example"
APP: Final = "my-app"
SOON: Final = 15.0  # seconds: an upper limit on a busy machine
ALICE: Final = User("alice", claims=(("name", "Alice A."),))
_NUMBERS: Final = itertools.count(1)


@contextlib.asynccontextmanager
async def trusting(
    folder: Path,
    upstream: str,
    issuer: dict[str, Any] | None = None,
    **changed: Any,
) -> AsyncIterator[Running]:
    """Run a sidecar that trusts two issuers; `issuer` changes the table of the first."""
    key_file = folder / "key.pem"
    key_file.write_bytes(forge.public_pem(forge.private_key("ES256")))
    tables = [
        IssuerSettings(issuer=name, audience=APP, key_file=str(key_file), session_mode="denylist")
        for name in (HERE, THERE)
    ]
    tables[0] = structs.replace(tables[0], **(issuer or {}))
    settings = configure(folder, upstream, users=(ALICE,), **changed)
    sidecar = Sidecar(structs.replace(settings, issuer=tuple(tables)))
    with loop_faults() as faults:
        await sidecar.start()
        try:
            yield Running(sidecar, settings)
        finally:
            await sidecar.stop()
    assert faults == []


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An application that answers everything."""
    async with ScriptedUpstream() as running:
        yield running


@pytest.fixture
async def sidecar(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Running]:
    """A sidecar with local sessions that trusts two issuers."""
    async with trusting(tmp_path, upstream.url) as running:
        yield running


def token(issuer: str = HERE, **claims: Any) -> str:
    """Return a foreign token of a new login, issued one second ago."""
    now, number = int(time.time()) - 1, next(_NUMBERS)
    own = {"iat": now, "nbf": now, "exp": now + 300, "jti": f"t{number}", "sid": f"s{number}"}
    return forge.token({**own, "iss": issuer, "aud": APP, **claims}, alg="ES256").decode()


def of_provider(issued: Issued) -> str:
    """Return the token of a provider, issued now for this application."""
    now = int(time.time())
    dates = {"iat": now, "exp": now + 300, "iss": HERE, "aud": APP}
    gone = dict.fromkeys(("nbf", "sid", "roles", "scope", *issued.gone), forge.GONE)
    header = {"typ": forge.GONE if issued.typ is None else issued.typ}
    return forge.token({**gone, **dates, **issued.claims}, header, alg="ES256").decode()


async def status(running: Running, shown: str, target: str = "/x") -> int:
    """Return the status of a request with this token."""
    return (await running.get(target, token=shown)).status


async def log_out(running: Running, shown: str, query: str = "") -> int:
    """Log out with this token and return the status."""
    return (await running.ask(build("POST", f"/auth/logout{query}", token=shown, body=b""))).status


async def identity(
    running: Running, upstream: ScriptedUpstream, *lines: str, token: str | None = None
) -> tuple[str, str, str]:
    """Return user, subject and issuer that the application receives."""
    assert (await running.get("/x", *lines, token=token)).status == 200
    fields = upstream.requests[-1].fields
    user, subject, issuer = (
        fields.one(name).decode() for name in ("X-Auth-User", "X-Auth-Subject", "X-Auth-Issuer")
    )
    return user, subject, issuer


# ── which tokens count ──


@pytest.mark.parametrize("target", ["/x", "/auth/verify", "/auth/userinfo"])
async def test_tokens_of_providers(sidecar: Running, target: str) -> None:
    """Access tokens of every provider are accepted; their ID and logout tokens are not."""
    for issued in (*ACCESS_TOKENS, *ID_TOKENS, *OTHER_TOKENS):
        expected = 200 if issued.kind is None else 401
        assert (issued.name, await status(sidecar, of_provider(issued), target)) == (
            *(issued.name, expected),
        )


async def test_the_reason_is_counted(sidecar: Running) -> None:
    """Metrics tell ID tokens and logout tokens from other bad tokens; the answer does not."""
    answers = set()
    for label, issued in (("id_token", ID_TOKENS[0]), ("logout_token", OTHER_TOKENS[0])):
        answer = await sidecar.get("/x", token=of_provider(issued))
        answers.add((answer.status, answer.fields.one("WWW-Authenticate")))
        sample = f'sidecar_decisions_total{{decision="deny",reason="{label}"}}'
        assert await sidecar.metric(sample) == 1
    forged = await sidecar.get("/x", token=token()[:-8] + "AAAAAAAA")
    assert answers == {(401, forged.fields.one("WWW-Authenticate"))}


async def test_id_tokens_by_choice(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """With `id_tokens`, ID tokens of that issuer are accepted, and those of others are not."""
    async with trusting(tmp_path, upstream.url, {"id_tokens": True}) as sidecar:
        assert await status(sidecar, token(nonce="n")) == 200
        assert await status(sidecar, of_provider(OTHER_TOKENS[0])) == 401
        assert await status(sidecar, token(THERE, nonce="n", scope=forge.GONE)) == 401


async def test_any_audience(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """`audience = "*"` accepts tokens for any application; other issuers keep their own."""
    async with trusting(tmp_path, upstream.url, {"audience": "*"}) as sidecar:
        for audience in ("other", "*", ["a", "b"], forge.GONE):
            assert await status(sidecar, token(aud=audience)) == 200
            assert await status(sidecar, token(THERE, aud=audience)) == 401


async def test_keys_by_environment(upstream: ScriptedUpstream) -> None:
    """Tokens of the issuer behind `jwks_url` are checked and named like those of any other."""
    async with KeyServer() as keys:
        keys.publish(k="ES256")
        setting: dict[str, Any] = {
            "jwks_url": keys.url,
            "jwt_issuer": HERE,
            "session_mode": "denylist",
        }
        async with stack(upstream.url, jwt_audience=APP, **setting) as sidecar:
            mine = token(preferred_username="root", name="root")
            assert await identity(sidecar, upstream, token=mine) == ("alice", "alice", HERE)
            assert await status(sidecar, token(aud="other")) == 401
            for issued in (*ACCESS_TOKENS, *ID_TOKENS, *OTHER_TOKENS):
                expected = 200 if issued.kind is None else 401
                assert await status(sidecar, of_provider(issued)) == expected
        async with stack(upstream.url, jwt_audience="*", **setting) as sidecar:
            assert await status(sidecar, token(aud="other")) == 200
            own = (await sidecar.login()).access
            assert "aud" not in json.loads(urlsafe_b64decode(own.split(".")[1] + "=="))


async def test_claims_by_environment(upstream: ScriptedUpstream) -> None:
    """With `jwks_url`, its issuer's claims are where the settings say, and own tokens as issued."""
    async with KeyServer() as keys:
        keys.publish(k="ES256")
        setting: dict[str, Any] = {
            "jwks_url": keys.url,
            "jwt_issuer": HERE,
            "jwt_audience": APP,
            "session_mode": "denylist",
            "jwt_subject_claim": "ids.oid",
            "jwt_roles_claim": ["realm_access.roles", "https://x.example/roles"],
            "jwt_scopes_claim": "permissions",
        }
        routes = [{"path": "/admin/*", "roles": ["admin"]}, {"path": "/w/*", "scopes": ["w"]}]
        async with stack(
            upstream.url, routes=routes, users=(User("root", roles=("admin",)),), **setting
        ) as sidecar:
            claims: dict[str, Any] = {"ids": {"oid": 7}, "realm_access": {"roles": ["user"]}}
            claims["roles"] = ["admin"]
            assert await identity(sidecar, upstream, token=token(**claims)) == ("7", "7", HERE)
            assert await status(sidecar, token(**claims), "/admin/x") == 403
            claims |= {"https://x.example/roles": "user,admin", "permissions": ["w"]}
            assert await status(sidecar, token(**claims), "/admin/x") == 200
            assert await status(sidecar, token(**claims), "/w/x") == 200
            assert await status(sidecar, token()) == 401
            own = (await sidecar.login("root")).access
            assert await identity(sidecar, upstream, token=own) == ("root", "root", HERE)
            assert await status(sidecar, own, "/admin/x") == 200


async def test_a_token_from_the_future(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """A token whose `iat` is beyond the leeway is denied, whatever its issuer's tokens need."""
    for mode in ("denylist", "none", "required"):
        async with trusting(tmp_path, upstream.url, {"session_mode": mode}) as sidecar:
            late = token(iat=int(time.time()) + 3600, exp=int(time.time()) + 7200)
            assert await status(sidecar, late) == 401
            sample = 'sidecar_decisions_total{decision="deny",reason="not_yet_valid"}'
            assert await sidecar.metric(sample) == 1


async def end_everything(sidecar: Running) -> None:
    """End everything of a user, and check that no token issued until now is left."""
    now = int(time.time())
    old, ahead, shown = token(iat=now - 60), token(iat=now + 4), token(iat=now)
    for each in (old, ahead, shown):
        assert await status(sidecar, each) == 200
    assert await log_out(sidecar, shown, "?all=true") == 204
    assert [await status(sidecar, each) for each in (old, ahead, shown)] == [401] * 3


async def test_everything_until_now(sidecar: Running) -> None:
    """A user who ends everything ends tokens of the present second and of a clock ahead as well."""
    await end_everything(sidecar)
    assert await status(sidecar, token(THERE)) == 200


async def test_everything_until_now_by_environment(upstream: ScriptedUpstream) -> None:
    """The same holds for the issuer behind `jwks_url`, whose tokens have no login here."""
    async with KeyServer() as keys:
        keys.publish(k="ES256")
        setting: dict[str, Any] = {
            "jwks_url": keys.url,
            "jwt_issuer": HERE,
            "jwt_audience": APP,
            "session_mode": "denylist",
        }
        async with stack(upstream.url, **setting) as sidecar:
            await end_everything(sidecar)
            own = await sidecar.login("admin")
            assert await log_out(sidecar, own.access, "?all=true") == 204
            assert await status(sidecar, (await sidecar.login("admin")).access) == 200


# ── whose users they are ──


async def test_names(tmp_path: Path, upstream: ScriptedUpstream, sidecar: Running) -> None:
    """The application gets the subject as the user, whatever name that user chose, and the issuer.

    A user here keeps the name in the users file.
    """
    claims = {"preferred_username": "root", "name": "root", "email": "a@example.org"}
    assert await identity(sidecar, upstream, token=token(**claims)) == ("alice", "alice", HERE)
    there = token(THERE, **claims)
    assert await identity(sidecar, upstream, token=there) == ("alice", "alice", THERE)
    ours = ("Alice A.", "alice", ISSUER)
    assert await identity(sidecar, upstream, token=(await sidecar.login()).access) == ours
    cookie = f"Cookie: {await sidecar.cookie()}"
    assert await identity(sidecar, upstream, cookie) == ours
    spoofed = ("X-Auth-Issuer: https://evil.example", "x_auth_issuer: https://evil.example")
    assert await identity(sidecar, upstream, *spoofed, token=there) == ("alice", "alice", THERE)
    async with stack(upstream.url, routes=PUBLIC) as public:
        assert await identity(public, upstream, *spoofed) == ("", "", "")


async def test_a_chosen_name(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """With `user_claim`, the user is that claim, and a token without it is denied."""
    async with trusting(tmp_path, upstream.url, {"user_claim": "email"}) as sidecar:
        mine = token(email="a@example.org")
        assert await identity(sidecar, upstream, token=mine) == ("a@example.org", "alice", HERE)
        for email in (forge.GONE, None, 7, "", ["a@example.org"], "a\nb", "x" * 256):
            assert await status(sidecar, token(email=email)) == 401
        assert await status(sidecar, token(THERE)) == 200


async def test_a_namesake_ends_nothing(sidecar: Running) -> None:
    """A foreign user with the subject and the session id of a user here sees and ends nothing."""
    own = (await sidecar.login()).access
    (login,) = (await sidecar.get("/auth/sessions", token=own)).json()["sessions"]
    sid = login["sid"]
    foreign = token(sid=sid)
    answer = await sidecar.get("/auth/sessions", token=foreign)
    assert (answer.status, answer.json()) == (200, {"sessions": []})
    gone = await sidecar.ask(build("DELETE", f"/auth/sessions/{sid}", token=foreign))
    assert gone.status == 404
    assert await log_out(sidecar, token(sid=sid), "?all=true") == 204
    assert await log_out(sidecar, token(sid=sid)) == 204
    assert await status(sidecar, own) == 200
    assert len((await sidecar.get("/auth/sessions", token=own)).json()["sessions"]) == 1


async def test_a_user_here_ends_no_namesake(sidecar: Running) -> None:
    """A user here who logs out everywhere leaves the foreign user of that name alone."""
    own = (await sidecar.login()).access
    sid = (await sidecar.get("/auth/userinfo", token=own)).json()["sid"]
    foreign = [token(issuer, sid=sid) for issuer in (HERE, THERE)]
    assert [await status(sidecar, each) for each in foreign] == [200, 200]
    assert await log_out(sidecar, own, "?all=true") == 204
    assert await status(sidecar, own) == 401
    assert [await status(sidecar, each) for each in foreign] == [200, 200]


async def test_a_namesake_by_environment(upstream: ScriptedUpstream) -> None:
    """The issuer behind `jwks_url` shares the sidecar's name, but not its logins."""
    async with KeyServer() as keys:
        keys.publish(k="ES256")
        setting: dict[str, Any] = {"jwks_url": keys.url, "jwt_issuer": HERE, "jwt_audience": APP}
        async with stack(
            upstream.url, users=(ALICE,), session_mode="none", jwt_leeway="0", **setting
        ) as sidecar:
            own = (await sidecar.login()).access
            assert await identity(sidecar, upstream, token=own) == ("Alice A.", "alice", HERE)
            (login,) = (await sidecar.get("/auth/sessions", token=own)).json()["sessions"]
            foreign = token(sid=login["sid"])
            answer = await sidecar.get("/auth/sessions", token=foreign)
            assert (answer.status, answer.json()) == (200, {"sessions": []})
            end = build("DELETE", f"/auth/sessions/{login['sid']}", token=foreign)
            assert (await sidecar.ask(end)).status == 404
            for query in ("?all=true", ""):
                assert await log_out(sidecar, foreign, query) == 204
            expired = token(sid=login["sid"], exp=int(time.time()) - 1, iat=int(time.time()) - 9)
            assert await log_out(sidecar, expired) == 204
            left = (await sidecar.get("/auth/sessions", token=own)).json()["sessions"]
            assert [each["sid"] for each in left] == [login["sid"]]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis that a test stops."""
    with RedisServer() as server:
        yield server


async def test_namesakes_in_an_outage(
    tmp_path: Path, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """While signatures decide, a logout here does not end the foreign user of that name."""
    settings: dict[str, Any] = {
        "session_outage": "signature",
        "session_store": "redis",
        "redis_host": "127.0.0.1",
        "redis_port": redis.port,
        "redis_timeout": 1.0,
    }
    required = {"session_mode": "required"}
    async with trusting(tmp_path, upstream.url, required, **settings) as sidecar:
        own = (await sidecar.login()).access
        sid = (await sidecar.get("/auth/userinfo", token=own)).json()["sid"]
        redis.kill()
        await sidecar.login()
        await until(lambda: sidecar.sidecar.degraded, SOON)
        foreign = token(sid=sid, iat=int(time.time()) - 60)
        assert await status(sidecar, foreign) == 200
        assert await log_out(sidecar, own, "?all=true") == 204
        assert await status(sidecar, own) == 401
        assert await status(sidecar, foreign) == 200


async def test_a_stream_of_a_namesake(tmp_path: Path) -> None:
    """A stream ends with its foreign token, although a login here has the token's session id."""

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await end.wait()
        return response

    app, end = web.Application(), asyncio.Event()
    app.router.add_get("/events", events)
    server = TestServer(app)
    await server.start_server()
    try:
        url = str(server.make_url(""))
        async with trusting(tmp_path, url, jwt_leeway="0") as sidecar:
            own = (await sidecar.login()).access
            sid = (await sidecar.get("/auth/userinfo", token=own)).json()["sid"]
            foreign = token(sid=sid, exp=int(time.time()) + 2)
            headers = {"Authorization": f"Bearer {foreign}"}
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{sidecar.url}/events", headers=headers) as answer,
            ):
                assert answer.status == 200
                with pytest.raises(aiohttp.ClientPayloadError):
                    async with asyncio.timeout(SOON):
                        await answer.read()
    finally:
        end.set()
        await server.close()
