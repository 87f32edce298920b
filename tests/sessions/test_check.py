"""The decision of a request by gate and store together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.auth.decision import Allow, Deny
from sidecar.auth.gate import Gate
from sidecar.auth.identity import IdentityHeaders
from sidecar.auth.keys import KeyRing
from sidecar.auth.reason import Reason
from sidecar.auth.route_rule import Access, Outage
from sidecar.auth.routes import Route
from sidecar.auth.session import Grant, Session, token_id
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import IssuerConfig, Verifier
from sidecar.sessions.check import authenticate
from sidecar.sessions.memory.local import LocalStore
from sidecar.sessions.redis.connect import RedisConfig, connect
from sidecar.sessions.redis.store import RedisStore
from sidecar.telemetry.metrics import Metrics
from sidecar.wire.head import RequestHead
from tests.auth.forge import AUDIENCE, ISSUER, NOW, SECRET, token
from tests.peers.redis_server import free_port
from tests.peers.signed import MAC

TOKEN = token()
SESSION = Session(
    id=token_id(TOKEN), sid="s1", sub="alice", claims={}, created=NOW, exp=NOW + 900.0
)
REQUIRED = Route("required")


@pytest.fixture
def gate() -> Gate:
    """A gate with one issuer."""
    issuer = IssuerConfig(issuer=ISSUER, audiences=frozenset((AUDIENCE,)))
    return Gate(Verifier([issuer], KeyRing([secret_key(ISSUER, SECRET)])), IdentityHeaders())


@pytest.fixture
def store() -> LocalStore:
    """A local store with one session."""
    made = LocalStore(lambda: NOW)
    made.put(Grant(session=SESSION))
    return made


def asked(credential: bytes | None = b"Bearer " + TOKEN) -> RequestHead:
    """The head of a request with this credential."""
    head = RequestHead()
    head.method, head.path, head.authorization = b"GET", "/", credential
    return head


class Asynchronous(LocalStore):
    """Returns sessions from `get` only, like a store that must ask another server."""

    __slots__ = ()

    def peek(self, token_id: str) -> None:
        """Return None: nothing is certain without waiting."""

    async def get(self, token_id: str) -> Session | None:
        """The session."""
        return LocalStore.peek(self, token_id)


async def test_a_live_session_lets_in(gate: Gate, store: LocalStore) -> None:
    """The request is allowed, whether `peek` or `get` returns the session."""
    asynchronous = Asynchronous(lambda: NOW)
    asynchronous.put(Grant(session=SESSION))
    for each in (store, asynchronous):
        decision = await authenticate(gate, each, REQUIRED, asked(), NOW)
        assert isinstance(decision, Allow)
        assert (decision.subject, decision.session_id) == ("alice", "s1")


async def test_no_session_no_entry(gate: Gate, store: LocalStore) -> None:
    """A valid token alone is not enough."""
    await store.revoke_session("s1")
    decision = await authenticate(gate, store, REQUIRED, asked(), NOW)
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.SESSION_MISSING


async def test_some_requests_need_no_session(gate: Gate) -> None:
    """A public route, and a request without credentials, are decided without the store."""
    store = Asynchronous(lambda: NOW)
    public = Route("public", Access.PUBLIC)
    assert await authenticate(gate, store, public, asked(), NOW) is gate.anonymous
    denied = await authenticate(gate, store, REQUIRED, asked(None), NOW)
    assert isinstance(denied, Deny)
    assert denied.reason is Reason.NO_CREDENTIALS


@pytest.mark.parametrize(
    ("degraded", "confirmed"),
    [
        pytest.param(False, False, id="a failed look-up"),
        pytest.param(True, False, id="slow for a moment"),
        pytest.param(True, True, id="away"),
    ],
)
async def test_a_store_that_cannot_answer_is_a_denial(
    gate: Gate, *, degraded: bool, confirmed: bool
) -> None:
    """401 in a confirmed outage in the default mode; 503 if a retry may help."""
    client = connect(RedisConfig(host="127.0.0.1", port=free_port()))
    store = RedisStore(client, Metrics(), MAC)
    store.degraded, store.outage_confirmed = degraded, confirmed
    for mode, reason in (
        (Outage.LOCAL, Reason.SESSION_MISSING if confirmed else Reason.STORE_UNAVAILABLE),
        (Outage.STALE, Reason.STORE_UNAVAILABLE),
        (Outage.STRICT, Reason.STORE_UNAVAILABLE),
    ):
        route = replace(REQUIRED, outage=mode)
        decision = await authenticate(gate, store, route, asked(), NOW)
        assert isinstance(decision, Deny)
        assert decision.reason is reason
    await store.close()
