"""Two applications on one Redis: neither uses, lists or ends what belongs to the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.auth.denylist import RevocableToken
from sidecar.auth.revocation import EVERYTHING, Revocation
from sidecar.auth.value_mac import ValueMac
from sidecar.sessions.redis.connect import RedisConfig, connect
from sidecar.sessions.redis.scanner import SessionScanner
from sidecar.sessions.redis.store import RedisStore
from sidecar.telemetry.metrics import Metrics
from tests.peers.signed import MAC, REFRESH_SECRET
from tests.sessions.conftest import PATIENT
from tests.sessions.contract import new_login, successor_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.clock import Clock
    from tests.peers.redis_server import RedisServer

SECRET: Final = REFRESH_SECRET.encode()
APPLICATIONS: Final[dict[str, dict[str, Any]]] = {
    "another audience": {"mac": ValueMac([SECRET], "auth-sidecar", "other")},
    "another issuer": {"mac": ValueMac([SECRET], "other", "auth-sidecar")},
    "another prefix": {"mac": MAC, "prefix": "other:"},
}


def new_store(server: RedisServer, clock: Clock, mac: ValueMac, **options: Any) -> RedisStore:
    """A store on this server."""
    client = connect(RedisConfig(port=server.port))
    return RedisStore(client, Metrics(), mac, clock=clock, timeout=PATIENT, **options)


@pytest.fixture
async def here(server: RedisServer, clock: Clock) -> AsyncIterator[RedisStore]:
    """The store of one application."""
    store = new_store(server, clock, MAC)
    yield store
    await store.close()


@pytest.fixture(params=sorted(APPLICATIONS))
async def there(
    request: pytest.FixtureRequest, server: RedisServer, clock: Clock
) -> AsyncIterator[RedisStore]:
    """The store of another application on the same Redis."""
    store = new_store(server, clock, **APPLICATIONS[request.param])
    yield store
    await store.close()


async def test_a_session(here: RedisStore, there: RedisStore, clock: Clock) -> None:
    """A credential of one is nothing at the other, and is not ended there."""
    grant = new_login(clock.now)
    await here.write(grant)
    assert await there.get(grant.session.id) is None
    assert await there.get_refresh(grant.refresh_id or "") is None
    assert await there.token_of(grant.session.sid) is None
    assert not await there.revoke_token(grant.session.id)
    assert not await there.revoke_session(grant.session.sid)
    assert await here.get(grant.session.id) == grant.session
    assert await here.get_refresh(grant.refresh_id or "") == grant.refresh
    assert await here.write(successor_of(grant, clock.now))


async def test_a_user_of_the_same_name(here: RedisStore, there: RedisStore, clock: Clock) -> None:
    """A list shows, and a logout of all sessions ends, only logins of the same application."""
    grants = [new_login(clock.now), new_login(clock.now)]
    await here.write(grants[0])
    await there.write(grants[1])
    (info,) = await here.sessions_of("alice")
    assert info.sid == grants[0].session.sid
    assert await there.revoke_user("alice") == 1
    assert await there.get(grants[1].session.id) is None
    assert await here.get(grants[0].session.id) == grants[0].session
    assert len(await here.sessions_of("alice")) == 1


async def test_a_revocation(here: RedisStore, there: RedisStore, clock: Clock) -> None:
    """A revocation refuses tokens at the application that recorded it."""
    revocable = RevocableToken("t", ("aa",), clock.now, clock.now + 900)
    await here.revocations.revoke({"aa": Revocation(EVERYTHING, clock.now + 900)})
    assert await here.revocations.get(revocable) is None
    assert await there.revocations.get(revocable) == revocable.session


async def test_the_operators_list(
    here: RedisStore, there: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """`sidecar sessions` shows the logins of one application."""
    grant = new_login(clock.now)
    await here.write(grant)
    client = connect(RedisConfig(port=server.port))
    for store, expected in ((here, [grant.session.sid]), (there, [])):
        scanner = SessionScanner(client, store.keys)
        assert [info.sid async for info in scanner.logins()] == expected
        assert [info.sid async for info in scanner.logins("alice")] == expected
        assert (await scanner.login(grant.session.sid) is not None) is bool(expected)
    await client.aclose()
