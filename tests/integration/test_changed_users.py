"""Users who are removed, disabled or changed in the users file: two sidecars and a real Redis."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.integration.test_reload import EVENTS, Changing, changing, refresh, rule
from tests.peers.patience import until
from tests.peers.raw_client import build
from tests.peers.redis_server import RedisServer
from tests.peers.scripted_upstream import OK, WATCH, Received, Script
from tests.peers.stack import ADMIN, ALICE, ISSUER, SCOUT, User, mint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from tests.peers.raw_client import RawClient
    from tests.peers.stack import Stack, Tokens

SOON: Final = 15.0  # seconds: an upper limit on a busy machine
ALL: Final = (ALICE, ADMIN, SCOUT)
GONE: Final = 'sidecar_decisions_total{decision="deny",reason="user_gone"}'
ROUTES: Final = (rule("/admin/*", roles=["admin"]),)
MODES: Final = ("local", "stale", "strict", "signature")


def without(user: User) -> tuple[User, ...]:
    """Return the users without this one."""
    return tuple(each for each in ALL if each is not user)


def changed(user: User, **fields: Any) -> tuple[User, ...]:
    """Return the users, of whom this one is changed."""
    return (*without(user), replace(user, **fields))


def answer(request: Received) -> Script:
    """Return the application's script: an endless stream of events, or one short answer."""
    return [EVENTS, WATCH] if b"events" in request.target else [OK]


@dataclass
class Pods:
    """Sidecars of one application, each with files of its own; `settings` they all share."""

    folder: Path
    settings: dict[str, Any]
    redis: RedisServer

    @contextlib.asynccontextmanager
    async def pod(
        self, name: str, users: Sequence[User] = ALL, **changed: Any
    ) -> AsyncIterator[Changing]:
        """Run one of them. Under the name of one that has stopped, it is that one restarted."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        async with changing(folder, users=users, **self.settings, **changed) as made:
            made.upstream.scripts = answer
            if self.settings["session_store"] == "redis":
                await until(lambda: made.proxy.sidecar.degraded or is_coherent(made.proxy), SOON)
            yield made

    async def change(self, pod: Changing, users: Sequence[User], **changed: Any) -> None:
        """Write another users file, and wait until the sidecar has noticed by itself."""
        before = pod.counts["success"]
        pod.write(users=users, **self.settings, **changed)
        await until(lambda: pod.counts["success"] > before)


async def is_coherent(running: Stack) -> bool:
    """Whether Redis reports changes to this sidecar."""
    return await running.metric("sidecar_near_cache_coherent") == 1


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis whose data survive a restart."""
    with RedisServer(keep=True) as server:
        yield server


@pytest.fixture
def pods(tmp_path: Path, redis: RedisServer) -> Pods:
    """The sidecars on this Redis."""
    settings = {
        "session_store": "redis",
        "redis_host": "127.0.0.1",
        "redis_port": redis.port,
        "redis_timeout": 1.0,
        "routes": ROUTES,
    }
    return Pods(tmp_path, settings, redis)


@dataclass(frozen=True)
class Logins:
    """The two logins of one user: a browser's and a program's."""

    cookie: str
    tokens: Tokens

    async def statuses(self, pod: Changing, path: str = "/") -> tuple[int, int]:
        """Return the status of a request with the cookie, and of one with the token."""
        by_cookie = await pod.proxy.get(path, f"Cookie: {self.cookie}")
        by_token = await pod.proxy.get(path, token=self.tokens.access)
        return by_cookie.status, by_token.status

    async def are_over(self, pod: Changing) -> bool:
        """Whether neither is accepted."""
        return await self.statuses(pod) == (401, 401)


async def log_in(pod: Changing, name: str) -> Logins:
    """Log in as this user, and use both logins twice, so that this sidecar remembers them."""
    logins = Logins(await pod.proxy.cookie(name), await pod.proxy.login(name))
    for _ in range(2):
        assert await logins.statuses(pod) == (200, 200)
    return logins


async def roles_seen(pod: Changing, logins: Logins) -> set[bytes]:
    """Return the roles that the application is told, with either login."""
    told = set()
    for credential in (f"Cookie: {logins.cookie}", f"Authorization: Bearer {logins.tokens.access}"):
        assert (await pod.proxy.get("/", credential)).status == 200
        told.add(pod.upstream.requests[-1].fields.one("x-auth-roles"))
    return told


@contextlib.asynccontextmanager
async def streams(pod: Changing, logins: Logins, path: str = "/") -> AsyncIterator[list[RawClient]]:
    """Open a stream of events with each of the logins."""
    async with pod.proxy.client() as browser, pod.proxy.client() as program:
        target = f"{path}events"
        await browser.send(build("GET", target, f"Cookie: {logins.cookie}"))
        await program.send(build("GET", target, token=logins.tokens.access))
        for client in (browser, program):
            await client.until(b"data: 1")
        yield [browser, program]
        for client in (browser, program):
            if not client.writer.is_closing():
                client.reset()  # a FIN would leave the other direction open


def open_streams(pod: Changing) -> int:
    """Return how many streams the sidecar watches."""
    assert pod.sidecar.context is not None
    assert pod.sidecar.context.session_watcher is not None
    return len(pod.sidecar.context.session_watcher)


GOING = [
    pytest.param(without(ALICE), id="removed"),
    pytest.param(changed(ALICE, disabled=True), id="disabled"),
    pytest.param(changed(ALICE, other_password="another"), id="other-password"),
]


@pytest.mark.parametrize("users", GOING)
async def test_it_ends_everywhere(pods: Pods, users: Sequence[User]) -> None:
    """One sidecar reads that a user is gone: their logins end everywhere, streams and all."""
    async with pods.pod("a") as here, pods.pod("b") as there:
        alice, admin = await log_in(here, "alice"), await log_in(there, "admin")
        assert await alice.statuses(there) == (200, 200)
        async with (
            streams(here, alice) as ours,
            streams(there, alice) as theirs,
            streams(there, admin),
        ):
            await pods.change(here, users)
            assert await alice.statuses(here) == (401, 401)
            for client in (*ours, *theirs):
                assert await client.ended() == "reset"
            await until(lambda: alice.are_over(there), SOON)
            for pod in (here, there):
                assert (await pod.proxy.ask(refresh(alice.tokens))).status == 401
                assert await admin.statuses(pod) == (200, 200)
            assert (open_streams(here), open_streams(there)) == (0, 2)


@pytest.mark.parametrize("users", GOING[:2])
async def test_a_restart_with_the_new_file(pods: Pods, users: Sequence[User]) -> None:
    """A sidecar that starts with the new file refuses the user; one with the old file does not."""
    async with pods.pod("a") as other:
        async with pods.pod("b") as before:
            alice, admin = await log_in(before, "alice"), await log_in(before, "admin")
        async with pods.pod("b", users) as after:
            assert await alice.statuses(after) == (401, 401)
            assert await after.proxy.metric(GONE) == 2
            assert await admin.statuses(after) == (200, 200)
            assert await alice.statuses(other) == (200, 200)
            assert (await after.proxy.ask(refresh(alice.tokens))).status == 401


async def test_a_demotion(pods: Pods) -> None:
    """A demoted user has the new roles at once, with tokens and cookies issued before."""
    users = changed(ADMIN, roles=("user",))
    async with pods.pod("a") as here:
        async with pods.pod("b") as there:
            admin = await log_in(here, "admin")
            for pod in (here, there):
                assert await admin.statuses(pod, "/admin/") == (200, 200)
                assert await roles_seen(pod, admin) == {b"user,admin"}
            async with streams(here, admin, "/admin/") as ended, streams(here, admin):
                await pods.change(here, users)
                assert await admin.statuses(here, "/admin/") == (403, 403)
                assert await roles_seen(here, admin) == {b"user"}
                assert [await client.ended() for client in ended] == ["reset"] * 2
                assert open_streams(here) == 2
        async with pods.pod("b", users) as there:
            assert await admin.statuses(there, "/admin/") == (403, 403)
            assert await roles_seen(there, admin) == {b"user"}
            told = (await there.proxy.get("/auth/userinfo", token=admin.tokens.access)).json()
            assert told["roles"] == ["user"]


async def test_a_promotion(pods: Pods) -> None:
    """A promoted user gets in at once, and is demoted again as fast."""
    async with pods.pod("a") as pod:
        alice = await log_in(pod, "alice")
        assert await alice.statuses(pod, "/admin/") == (403, 403)
        await pods.change(pod, changed(ALICE, roles=("admin",)))
        assert await alice.statuses(pod, "/admin/") == (200, 200)
        await pods.change(pod, ALL)
        assert await alice.statuses(pod, "/admin/") == (403, 403)


async def test_on_an_open_connection(pods: Pods) -> None:
    """The same request on the same connection is decided anew after the change."""
    async with pods.pod("a") as pod, pod.proxy.client() as browser, pod.proxy.client() as program:
        admin = await log_in(pod, "admin")
        requests = (
            (browser, build("GET", "/admin/", f"Cookie: {admin.cookie}")),
            (program, build("GET", "/admin/", token=admin.tokens.access)),
        )
        for users, status in ((ALL, 200), (changed(ADMIN, roles=()), 403), (without(ADMIN), 401)):
            await pods.change(pod, users)
            for _ in range(3):
                assert [(await one.ask(each)).status for one, each in requests] == [status] * 2


async def test_other_claims_and_scopes(pods: Pods) -> None:
    """Scopes and other claims are those of the file too."""
    routes = (
        rule("/read/*", scopes=["read"]),
        rule("/acme/*", claims={"tenant": ["acme"]}),
    )
    pods.settings["routes"] = routes
    async with pods.pod("a") as pod:
        scout = await log_in(pod, "scout")
        assert await scout.statuses(pod, "/read/") == (200, 200)
        assert await scout.statuses(pod, "/acme/") == (403, 403)
        await pods.change(pod, changed(SCOUT, scopes=("write",), claims=(("tenant", "acme"),)))
        assert await scout.statuses(pod, "/read/") == (403, 403)
        assert await scout.statuses(pod, "/acme/") == (200, 200)


async def test_a_new_login_after_a_change(pods: Pods) -> None:
    """A user with another password, or back from a removal, has only logins made since."""
    users = changed(ALICE, other_password="another")
    async with pods.pod("a") as pod:
        before = await log_in(pod, "alice")
        await pods.change(pod, users)
        await until(lambda: before.are_over(pod))
        with pytest.raises(AssertionError, match="401"):
            await pod.proxy.login("alice")
        await pods.change(pod, ALL)
        await until(lambda: before.are_over(pod))
        after = await log_in(pod, "alice")
        await pods.change(pod, ALL)
        assert await after.statuses(pod) == (200, 200)
        assert await before.are_over(pod)


async def lose_redis(pods: Pods, *running: Changing) -> None:
    """Kill Redis, and make each sidecar notice."""
    pods.redis.kill()
    for pod in running:

        async def has_noticed(pod: Changing = pod) -> bool:
            await pod.proxy.get("/", "Cookie: __Host-session=unknown")
            return pod.sidecar.degraded

        await until(has_noticed, SOON)


@pytest.mark.parametrize("users", [GOING[0], GOING[2]])
@pytest.mark.parametrize("mode", MODES)
async def test_during_an_outage(pods: Pods, mode: str, users: Sequence[User]) -> None:
    """What ends during an outage ends here at once, and everywhere once Redis is back."""
    pods.settings["session_outage"] = mode
    known = (503, 503) if mode == "strict" else (200, 200)
    async with pods.pod("a") as here, pods.pod("b") as there:
        alice, admin = await log_in(here, "alice"), await log_in(here, "admin")
        assert await alice.statuses(there) == (200, 200)
        async with (
            streams(here, alice) as ours,
            streams(here, admin),
            streams(there, alice) as theirs,
        ):
            await lose_redis(pods, here, there)
            await pods.change(here, users)
            assert [await client.ended() for client in ours] == ["reset"] * 2
            assert 200 not in await alice.statuses(here)
            assert await admin.statuses(here) == known
            assert await alice.statuses(there) == known
            assert (open_streams(here), open_streams(there)) == (2, 2)
            pods.redis.start()
            await until(lambda: alice.are_over(there), SOON)
            assert [await client.ended() for client in theirs] == ["reset"] * 2
            await until(lambda: not here.sidecar.degraded, SOON)
            assert await alice.statuses(here) == (401, 401)
            assert await admin.statuses(here) == (200, 200)
            assert open_streams(here) == 2


@pytest.mark.parametrize(
    ("mode", "session_mode"), [*((mode, "required") for mode in MODES), ("strict", "denylist")]
)
async def test_a_demotion_during_an_outage(pods: Pods, mode: str, session_mode: str) -> None:
    """Roles are those of the file in every outage mode, and open streams are checked by them."""
    pods.settings |= {"session_outage": mode, "session_mode": session_mode}
    strict = (503, 503) if mode == "strict" else None
    async with pods.pod("a") as pod:
        admin = await log_in(pod, "admin")
        async with streams(pod, admin, "/admin/") as ended, streams(pod, admin):
            await lose_redis(pods, pod)
            assert await admin.statuses(pod, "/admin/") == (strict or (200, 200))
            await pods.change(pod, changed(ADMIN, roles=("user",)))
            assert [await client.ended() for client in ended] == ["reset"] * 2
            assert await admin.statuses(pod, "/admin/") == (strict or (403, 403))
            assert open_streams(pod) == 2


@pytest.mark.parametrize("mode", ["denylist", "none"])
async def test_tokens_without_sessions(pods: Pods, mode: str) -> None:
    """Without sessions, a token of a password login still follows the users file.

    Tokens that other programs made for the same name do not: nothing says that they belong to a
    user of the file.
    """
    pods.settings["session_mode"] = mode
    made_elsewhere = mint("admin", roles=["admin"], iat=0)
    async with pods.pod("a") as pod:
        admin, alice = await log_in(pod, "admin"), await log_in(pod, "alice")
        assert await admin.statuses(pod, "/admin/") == (200, 200)
        await pods.change(pod, changed(ADMIN, roles=("user",)))
        assert await admin.statuses(pod, "/admin/") == (403, 403)
        assert (await pod.proxy.get("/admin/", token=made_elsewhere)).status == 200
        await pods.change(pod, without(ALICE))
        assert await alice.statuses(pod) == (401, 401)
    async with pods.pod("b", without(ADMIN)) as pod:
        assert await admin.statuses(pod) == (401, 401)
        assert (await pod.proxy.get("/admin/", token=made_elsewhere)).status == 200


async def test_local_sessions(pods: Pods) -> None:
    """With sessions in memory, a removed user's logins end and a demoted user has the new roles."""
    pods.settings["session_store"] = "local"
    async with pods.pod("a") as pod:
        alice, admin = await log_in(pod, "alice"), await log_in(pod, "admin")
        async with streams(pod, alice) as ended:
            await pods.change(pod, (replace(ADMIN, roles=("user",)), SCOUT))
            assert [await client.ended() for client in ended] == ["reset"] * 2
        assert await alice.statuses(pod) == (401, 401)
        assert await admin.statuses(pod, "/admin/") == (403, 403)
        assert (await pod.proxy.ask(refresh(admin.tokens))).status == 200
        assert (await pod.proxy.ask(refresh(alice.tokens))).status == 401


async def test_a_sidecar_without_a_users_file(pods: Pods) -> None:
    """A sidecar without a users file accepts and refreshes what another one has issued."""
    async with pods.pod("a") as issuing, pods.pod("b", users_file="") as other:
        alice = await log_in(issuing, "alice")
        assert await alice.statuses(other) == (200, 200)
        answered = await other.proxy.ask(refresh(alice.tokens))
        assert answered.status == 200
        access = answered.json()["access_token"]
        assert (await issuing.proxy.get("/", token=access)).status == 200


async def test_a_users_file_that_is_no_longer_configured(pods: Pods) -> None:
    """Without its users file, a sidecar has no users: the logins of all of them end."""
    async with pods.pod("a") as pod:
        alice = await log_in(pod, "alice")
        await pods.change(pod, ALL, users_file="")
        await until(lambda: alice.are_over(pod))


async def test_a_minted_token(pods: Pods) -> None:
    """A session that did not begin with a password is not the user's, whatever its name."""
    pods.settings["session_key"] = "token"
    token = mint("alice", roles=["admin"], aud=ISSUER)
    async with pods.pod("a") as pod:
        pods.redis.admin.set(f"session:token:{token}", "by another program")
        assert (await pod.proxy.get("/admin/", token=token)).status == 200
        await pods.change(pod, without(ALICE))
        assert (await pod.proxy.get("/admin/", token=token)).status == 200
