"""A configuration that changes while the sidecar serves takes effect as a whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import ssl
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from msgspec import structs

from sidecar.app.reload import Reloader
from sidecar.app.sidecar import Sidecar
from sidecar.errors import ConfigError
from sidecar.settings import IssuerSettings, load
from tests.auth import forge
from tests.peers.certificates import certificate
from tests.peers.key_server import KeyServer
from tests.peers.patience import until
from tests.peers.process import process
from tests.peers.raw_client import build, connect, fetch
from tests.peers.scripted_upstream import OK, STALL, WATCH, ScriptedUpstream
from tests.peers.stack import ADMIN, ALICE, ISSUER, PUBLIC, Stack, configure, loop_faults, mint
from tests.proxy.handshake import ASK, SWITCH
from tests.proxy.test_upgrades import mirror

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from sidecar.settings import Loaded
    from tests.peers.stack import Tokens

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
OTHER_SECRET = "another secret of at least thirty-two bytes"


def rule(path: str, **keys: Any) -> dict[str, Any]:
    """Return a route's table."""
    return {"path": path, **keys}


class Changing:
    """A sidecar, the folder of its configuration, and the reloader that reads it again."""

    def __init__(self, folder: Path, upstream: ScriptedUpstream, **settings: Any) -> None:
        self.folder = folder
        self.upstream = upstream
        self.issuers: Sequence[IssuerSettings] | None = settings.pop("issuers", ())
        self.asked = asyncio.Event()
        self.write(**settings)
        self.sidecar = Sidecar(self.read().settings)
        self.reloads = Reloader(self.sidecar, self.read, f"{folder}/sidecar.toml", every=0.01)
        self.proxy = Stack(self.sidecar, self.sidecar.settings)

    def write(self, **settings: Any) -> None:
        """Write another configuration without reading it."""
        with contextlib.suppress(ConfigError):  # it is up to `read` to report what is wrong
            configure(self.folder, settings.pop("upstream_url", self.upstream.url), **settings)

    def read(self) -> Loaded:
        """Return the settings that the files contain now."""
        loaded = load(env={}, file=self.folder / "sidecar.toml")
        if self.issuers is None:  # use those in the file
            return loaded
        settings = structs.replace(loaded.settings, issuer=tuple(self.issuers))
        return structs.replace(loaded, settings=settings)

    async def change(self, **settings: Any) -> None:
        """Write another configuration and reload."""
        self.write(**settings)
        await self.reloads.reload()

    @property
    def counts(self) -> dict[str, int]:
        """The number of successful and failed reloads."""
        return self.sidecar.metrics.reloads


@contextlib.asynccontextmanager
async def changing(folder: Path, **settings: Any) -> AsyncIterator[Changing]:
    """Run a sidecar with a reloader."""
    async with ScriptedUpstream() as upstream:
        one = Changing(folder, upstream, **settings)
        with loop_faults() as faults:
            await one.sidecar.start()
            reading = asyncio.create_task(one.reloads.run(one.asked))
            try:
                yield one
            finally:
                reading.cancel()
                await asyncio.wait((reading,))
                await one.sidecar.stop()
        assert not faults


# What changes


async def test_routes(tmp_path: Path) -> None:
    """The next request on an open connection is decided and counted by the new rules.

    A request in progress is answered, and counts under the rule it began with.
    """
    async with changing(tmp_path, routes=[rule("/a", access="public", name="a")]) as one:
        one.upstream.scripts = [[OK], [STALL, OK], [OK]]
        async with one.proxy.client() as kept, one.proxy.client() as busy:
            assert (await kept.ask(build("GET", "/a"))).status == 200
            await busy.send(build("GET", "/a"))
            await one.upstream.arrived(2)
            new = [rule("/new", access="public"), rule("/b", access="public", name="b")]
            await one.change(routes=new)
            assert (await kept.ask(build("GET", "/a"))).status == 401
            assert (await kept.ask(build("GET", "/b"))).status == 200
            one.upstream.release.set()
            assert (await busy.response()).status == 200
        counts = {name: sum(each.codes.values()) for name, each in metrics_of(one).items()}
        assert (counts["a"], counts["b"], counts["default"]) == (2, 1, 1)
        assert one.sidecar.status()["routes"][-3:] == ["new", "b", "default"]


async def test_path_escapes(tmp_path: Path) -> None:
    """The routes that count now say whether a path's escapes pass, on open connections too."""
    ask = build("GET", "/a/%2F;b")
    routes = [rule("/a/*", access="public", path_escapes="pass")]
    async with changing(tmp_path, routes=routes) as one:
        async with one.proxy.client() as kept:
            assert (await kept.ask(ask)).status == 200
            await one.change(routes=[rule("/a/*", access="public")])
            assert (await kept.ask(ask)).status == 400
        async with one.proxy.client() as kept:
            await one.change(routes=[rule("/a/b", roles=["r"]), *routes])  # refused
            assert (await kept.ask(ask)).status == 400
            assert [each.target for each in one.upstream.requests] == [b"/a/%2F;b"]
        async with one.proxy.client() as kept:
            assert (await kept.ask(build("GET", "/a/c"))).status == 200
            await one.change(routes=routes)
            assert (await kept.ask(ask)).status == 200


def metrics_of(one: Changing) -> Any:
    """Return the request metrics by route."""
    return one.sidecar.metrics.routes


async def test_users(tmp_path: Path) -> None:
    """An added user can log in; a removed user can neither log in nor refresh."""
    async with changing(tmp_path, users=[ALICE]) as one:
        alice = await one.proxy.login("alice")
        await one.change(users=[ADMIN])
        await one.proxy.login("admin")
        with pytest.raises(AssertionError, match="401"):
            await one.proxy.login("alice")
        assert (await one.proxy.ask(refresh(alice))).status == 401


def refresh(tokens: Tokens) -> bytes:
    """Build a refresh request for these tokens."""
    body = f'{{"refresh_token": "{tokens.refresh}"}}'.encode()
    return build("POST", "/auth/refresh", "Content-Type: application/json", body=body)


async def test_where_people_sign_in(tmp_path: Path) -> None:
    """After a change of the sign-in page, redirects and error pages lead to the new one."""
    routes = [rule("/admin/*", roles=["admin"])]
    lines = ("Accept: text/html", "Sec-Fetch-Mode: navigate")
    async with changing(tmp_path, routes=routes) as one:
        token = (await one.proxy.login()).access
        await one.change(routes=routes, login_url="https://sso.example/")
        answer = await one.proxy.get("/", *lines)
        assert answer.fields.one("location") == b"https://sso.example/?rd=/"
        answer = await one.proxy.get("/admin/", *lines, token=token)
        assert answer.status == 403
        assert b'href="https://sso.example/"' in answer.body


async def test_secrets(tmp_path: Path) -> None:
    """Removing a secret invalidates its tokens, even cached ones; a previous secret stays valid."""
    async with changing(tmp_path, session_mode="none") as one, one.proxy.client() as client:
        old = build("GET", "/", token=mint())
        new = build("GET", "/", token=mint(secret=OTHER_SECRET))
        assert [(await client.ask(each)).status for each in (old, old, new)] == [200, 200, 401]
        both = {
            "jwt_secret": OTHER_SECRET,
            "jwt_secret_previous": one.read().settings.jwt_secret.reveal(),
        }
        await one.change(session_mode="none", **both)
        assert [(await client.ask(each)).status for each in (old, new, new)] == [200, 200, 200]
        await one.change(session_mode="none", jwt_secret=OTHER_SECRET)
        assert [(await client.ask(each)).status for each in (old, new)] == [401, 200]


async def test_limits(tmp_path: Path) -> None:
    """A new limit applies to the next request."""
    async with changing(tmp_path, routes=PUBLIC) as one:
        one.upstream.scripts = [[STALL, OK]]
        async with one.proxy.client() as busy:
            await busy.send(build("GET", "/"))
            await one.upstream.arrived()
            await one.change(routes=PUBLIC, max_requests=1)
            assert (await one.proxy.get("/")).status == 503
            one.upstream.release.set()
            assert (await busy.response()).status == 200


async def test_a_proxy_that_is_trusted_no_more(tmp_path: Path) -> None:
    """A proxy that is no longer trusted loses trust from the next request, even when connected."""
    settings = {"routes": PUBLIC}
    async with changing(tmp_path, trusted_proxies=["127.0.0.0/8"], **settings) as one:
        one.upstream.scripts = [[OK], [OK]]
        request = build("GET", "/", "X-Forwarded-For: 192.0.2.1")
        async with one.proxy.client() as client:
            await client.ask(request)
            await one.change(trusted_proxies=[], **settings)
            await client.ask(request)
    told = [each.fields.one("x-forwarded-for") for each in one.upstream.requests]
    assert told == [b"192.0.2.1, 127.0.0.1", b"127.0.0.1"]


async def test_a_tunnel_that_may_not_go_on(tmp_path: Path) -> None:
    """A tunnel is checked against the new rules and closed if they do not allow it."""
    async with changing(tmp_path, routes=[rule("/*")]) as one:
        one.upstream.scripts = [[SWITCH, mirror]]
        token = (await one.proxy.login("alice")).access
        async with one.proxy.client() as client:
            await client.send(build("GET", "/ws", *ASK, token=token))
            assert (await client.response()).status == 101
            await one.change(routes=[rule("/other"), rule("/*")])
            await client.send(b"\x81\x80abcd")
            assert await client.exactly(6) == b"\x81\x80abcd"
            await one.change(routes=[rule("/*", roles=["admin"])])
            assert await client.exactly(4) == b"\x88\x02\x03\xf0"  # a Close with code 1008
            await client.ended()


@pytest.mark.parametrize("refreshed", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"routes": [rule("/*", roles=["admin"])]}, id="role"),
        pytest.param({"routes": [rule("/*")], "jwt_secret": OTHER_SECRET}, id="secret"),
    ],
)
async def test_a_stream_that_may_not_go_on(
    tmp_path: Path, change: dict[str, Any], *, refreshed: bool
) -> None:
    """A stream ends if the new rules deny it or its secret is gone, refreshed login or not."""
    async with changing(tmp_path, routes=[rule("/*")]) as one:
        one.upstream.scripts = [[EVENTS, WATCH]]
        tokens = await one.proxy.login("alice")
        async with one.proxy.client() as client:
            await client.send(build("GET", "/", token=tokens.access))
            await client.until(b"data: 1")
            if refreshed:
                body = f'{{"refresh_token": "{tokens.refresh}"}}'.encode()
                request = build(
                    "POST", "/auth/refresh", "Content-Type: application/json", body=body
                )
                assert (await one.proxy.ask(request)).status == 200
            await one.change(**change)
            assert await client.ended() == "reset"


@pytest.mark.parametrize(
    ("counts", "ends"),
    [
        pytest.param("any", True, id="both"),
        pytest.param("bearer", True, id="another-user"),
        pytest.param("cookie", False, id="the-same"),
    ],
)
async def test_a_stream_whose_credential_counts_no_more(
    tmp_path: Path, counts: str, *, ends: bool
) -> None:
    """A stream of one credential does not continue by the other one of its request."""
    async with changing(tmp_path, routes=[rule("/*", credentials="cookie")]) as one:
        one.upstream.scripts = [[EVENTS, WATCH]]
        cookie, token = await one.proxy.cookie("alice"), (await one.proxy.login("admin")).access
        async with one.proxy.client() as client:
            await client.send(build("GET", "/", f"Cookie: {cookie}", token=token))
            await client.until(b"data: 1")
            await one.change(routes=[rule("/*", credentials=counts, name="other")])
            if not ends:
                lines = (f"Cookie: {cookie}", "Origin: http://sidecar.test")
                await one.proxy.ask(build("POST", "/auth/logout", *lines, body=b""))
            assert await client.ended() == "reset"


async def test_a_stream_that_began_too_late(tmp_path: Path) -> None:
    """A request allowed by the old rules and answered after the reload must meet the new ones."""
    async with changing(tmp_path, routes=[rule("/*")]) as one, one.proxy.client() as client:
        one.upstream.scripts = [[STALL, EVENTS, WATCH]]
        token = (await one.proxy.login("alice")).access
        await client.send(build("GET", "/", token=token))
        await one.upstream.arrived()
        await one.change(routes=[rule("/*", roles=["admin"])])
        one.upstream.release.set()
        assert await client.ended() == "reset"


async def test_the_upstream_s_certificates(tmp_path: Path) -> None:
    """New upstream connections use the new CA file."""
    good, bad = certificate(tmp_path, "localhost"), certificate(tmp_path, "other.test")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(good)
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    settings = {"routes": PUBLIC, "upstream_url": f"https://localhost:{runner.addresses[0][1]}"}
    try:
        async with changing(tmp_path, upstream_ca_file=str(bad), **settings) as one:
            assert (await one.proxy.get("/")).status == 503
            await one.change(upstream_ca_file=str(good), **settings)
            assert (await one.proxy.get("/")).status == 404
    finally:
        await runner.cleanup()


async def test_issuers(tmp_path: Path) -> None:
    """An added issuer's tokens are accepted at once, because its keys are fetched first.

    While its keys cannot be fetched, the known ones stay valid. A removed issuer's tokens are
    denied.
    """
    async with KeyServer() as server, changing(tmp_path) as one:
        server.publish(rsa="RS256")
        url = server.url
        issuer = IssuerSettings(issuer=FOREIGN, audience="*", jwks_url=url, session_mode="none")
        request = build("GET", "/", token=foreign())
        assert (await one.proxy.ask(request)).status == 401
        one.issuers = [issuer]
        await one.reloads.reload()
        assert (await one.proxy.ask(request)).status == 200
        await server.stop()
        await one.reloads.reload()
        assert one.counts == {"success": 2, "failure": 0}
        assert (await one.proxy.ask(request)).status == 200
        one.issuers = [structs.replace(issuer, jwks_url=url + "2")]
        await one.reloads.reload()
        assert (await one.proxy.ask(request)).status == 401
        await server.begin()
        one.issuers = [issuer]
        await one.reloads.reload()
        assert (await one.proxy.ask(request)).status == 200
        one.issuers = []
        await one.reloads.reload()
        assert (await one.proxy.ask(request)).status == 401
        await until(lambda: not keepers())


def keepers() -> list[str]:
    """Return the names of the tasks that keep other issuers' keys."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if "keys of" in name]


FOREIGN = "https://id.example"


def foreign() -> str:
    """Return a token of another issuer."""
    now = int(time.time())
    claims = {"iss": FOREIGN, "aud": ISSUER, "iat": now, "nbf": now, "exp": now + 300}
    return forge.token(claims, {"kid": "rsa"}, alg="RS256").decode()


# Errors change nothing


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"routes": [rule("x")]}, id="route"),
        pytest.param({"jwt_secret": "short"}, id="secret-too-short"),
        pytest.param({"users_file": "missing.toml"}, id="missing-file"),
        pytest.param({"jwt_private_key_file": "users.toml"}, id="wrong-file-type"),
        pytest.param({"no_such": 1}, id="unknown-key"),
    ],
)
async def test_what_is_wrong_changes_nothing(
    tmp_path: Path, broken: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A bad configuration is logged and counted, the old one stays, and a good one works."""
    async with changing(tmp_path, routes=[rule("/a", access="public")]) as one:
        good = {"routes": [rule("/b", access="public")]}
        await one.change(**{**good, **broken})
        assert (await one.proxy.get("/a")).status == 200
        assert (await one.proxy.get("/b")).status == 401
        line = next(each for each in caplog.records if each.name == "sidecar.reload")
        assert line.message == "the new configuration is not used"
        assert len(vars(line)["problems"]) == 1
        assert await one.proxy.metric("sidecar_config_last_reload_successful") == 0
        assert await one.proxy.metric('sidecar_config_reloads_total{result="failure"}') == 1
        await one.change(**good)
        assert (await one.proxy.get("/b")).status == 200
        assert await one.proxy.metric("sidecar_config_last_reload_successful") == 1
        assert one.counts == {"success": 1, "failure": 1}


async def test_what_waits_for_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Settings that need a restart are named without their values; the others take effect."""
    caplog.set_level(logging.INFO)
    async with changing(tmp_path) as one:
        await one.change(routes=PUBLIC, session_cookie="other", max_headers=99)
        assert (await one.proxy.get("/")).status == 200
        assert one.sidecar.status()["waiting_for_restart"] == ("session_cookie", "max_headers")
        line = next(each for each in caplog.records if each.message == "configuration reloaded")
        assert vars(line)["waiting_for_restart"] == ("session_cookie", "max_headers")


async def test_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each reload logs each warning once, with the way out; a failed one logs none."""
    caplog.set_level(logging.INFO)
    random = "h1JcM5O0jVb8mYxq2T7uWn4ZrKs9Pd3LgEaQiXf6vRyBtUoC8wNkHpDzS0eGlMj1"

    def warnings() -> list[str]:
        found = [each for each in caplog.records if each.name == "sidecar.config"]
        caplog.clear()
        assert all(each.levelname == "WARNING" and vars(each)["remedy"] for each in found)
        return [vars(each)["setting"] for each in found]

    async with changing(tmp_path, jwt_secret=random, refresh_secret=random[::-1]) as one:
        assert warnings() == []
        everyone = ("0.0.0.0/0",)
        await one.change(jwt_secret=random, refresh_secret=random[::-1], trusted_proxies=everyone)
        assert warnings() == ["trusted_proxies"]
        await one.change(jwt_secret=OTHER_SECRET, refresh_secret=random[::-1], users=())
        assert warnings() == ["jwt_secret", f"users_file {tmp_path}/users.toml"]
        assert OTHER_SECRET not in caplog.text
        await one.change(log_level="loud")
        assert warnings() == []
        assert one.counts == {"success": 2, "failure": 1}


# When the files are read


async def test_a_file_that_changes(tmp_path: Path) -> None:
    """A change of the file or of one that it names causes a reload, as does a request."""
    async with changing(tmp_path) as one:
        one.write(routes=PUBLIC)
        await until(lambda: one.counts["success"] == 1)
        assert (await one.proxy.get("/")).status == 200
        (tmp_path / "users.toml").write_text(ADMIN.toml())
        await until(lambda: one.counts["success"] == 2)
        await one.proxy.login("admin")
        one.asked.set()
        await until(lambda: one.counts["success"] == 3)
        assert not one.asked.is_set()


async def test_files_that_nobody_watches(tmp_path: Path) -> None:
    """With `watch_files = false` the files are read on request only."""
    async with changing(tmp_path, watch_files=False) as one:
        one.write(routes=PUBLIC)
        looks = one.reloads
        await asyncio.gather(*(asyncio.sleep(0.02) for _ in range(5)))
        assert "changed=False" in repr(looks)
        one.asked.set()
        await until(lambda: one.counts["success"] == 1)
        assert (await one.proxy.get("/")).status == 200


async def test_a_certificate_that_changes(tmp_path: Path) -> None:
    """New connections get the new certificate once its key matches; open ones continue."""
    data = tmp_path / "data"
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        shutil.copy(certificate(tmp_path, "localhost"), tmp_path / name / "tls.pem")
    data.symlink_to("1")
    key = tmp_path / "key.pem"
    shutil.copy(tmp_path / "1" / "tls.pem", key)
    tls = {"tls_cert_file": f"{data}/tls.pem", "tls_key_file": str(key)}
    async with changing(tmp_path, routes=PUBLIC, **tls) as one:
        first, second = (
            ssl.create_default_context(cafile=f"{tmp_path}/{name}/tls.pem") for name in ("1", "2")
        )
        async with connect(one.sidecar.port, tls=first) as kept:
            (tmp_path / "next").symlink_to("2")
            (tmp_path / "next").rename(data)
            await until(lambda: one.counts["failure"] == 1)
            async with connect(one.sidecar.port, tls=first) as client:
                assert (await client.ask(build("GET", "/"))).status == 200
            shutil.copy(tmp_path / "2" / "tls.pem", key)
            await until(lambda: one.counts["success"] == 1)
            async with connect(one.sidecar.port, tls=second) as client:
                assert (await client.ask(build("GET", "/"))).status == 200
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(one.sidecar.port, tls=first).__aenter__()
            assert (await kept.ask(build("GET", "/"))).status == 200


async def test_a_file_that_comes_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A missing file is retried without a request and logged only once."""
    async with changing(tmp_path) as one:
        later = tmp_path / "later.pem"
        issuer = {
            "issuer": FOREIGN,
            "audience": "*",
            "key_file": str(later),
            "session_mode": "none",
        }
        text = (tmp_path / "sidecar.toml").read_text()
        lines = "".join(f'{name} = "{value}"\n' for name, value in issuer.items())
        (tmp_path / "sidecar.toml").write_text(f"{text}\n[[issuer]]\n{lines}")
        one.issuers = None
        await until(lambda: one.counts["failure"] >= 2)
        later.write_bytes(forge.public_pem(forge.private_key("RS256")))
        await until(lambda: one.counts["success"] == 1)
        assert (await one.proxy.ask(build("GET", "/", token=foreign()))).status == 200
        said = [each.message for each in caplog.records if each.name == "sidecar.reload"]
        assert said.count("the new configuration is not used") == 1


async def test_a_key_that_is_withdrawn(tmp_path: Path) -> None:
    """A stream ends when the issuer no longer publishes the key of its token."""
    async with KeyServer() as server:
        server.publish(rsa="RS256")
        issuer = IssuerSettings(
            issuer=FOREIGN, audience="*", jwks_url=server.url, session_mode="none"
        )
        async with changing(tmp_path, issuers=[issuer]) as one, one.proxy.client() as client:
            one.upstream.scripts = [[EVENTS, WATCH]]
            await client.send(build("GET", "/", token=foreign()))
            await client.until(b"data: 1")
            server.publish(other="RS256")
            other = forge.token({"iss": FOREIGN}, {"kid": "x"}, alg="RS256").decode()
            await one.proxy.ask(build("GET", "/", token=other))  # causes the keys to be fetched
            assert await client.ended() == "reset"


# A whole process


async def test_a_signal() -> None:
    """Repeated SIGHUPs reload without ending a connection or failing a request."""
    async with ScriptedUpstream() as upstream, process(upstream.url, routes=PUBLIC) as one:
        statuses: list[int] = []

        async def ask(session: aiohttp.ClientSession) -> None:
            while len(statuses) < 2000:
                async with session.get(f"http://127.0.0.1:{one.port}/") as answer:
                    statuses.append(answer.status)

        async def reload() -> None:
            for number in range(5):
                routes = [*PUBLIC, rule(f"/{number}", name=f"n{number}")][::-1]
                configure(one.folder, upstream.url, routes=routes, log_level="info")
                one.tell(signal.SIGHUP)
                await one.said("configuration reloaded")

        async with aiohttp.ClientSession() as session:
            await asyncio.gather(reload(), *(ask(session) for _ in range(4)))
            assert set(statuses) == {200}
            assert len(upstream.connections) < 20
        status = await fetch(one.admin_port, build("GET", "/status"))
        assert "n4" in status.json()["routes"]
        (one.folder / "sidecar.toml").write_text("route = 1\n")
        one.tell(signal.SIGHUP)
        await one.said("the new configuration is not used")
        assert (await one.get()).status == 200
        one.tell(signal.SIGTERM)
        assert await one.ended() == 0
