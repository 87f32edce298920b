"""No password, token or cookie appears in a log record, whatever happens to the request."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.api.grants import ClientInfo, issue_pair, new_login
from sidecar.api.login import Credentials
from sidecar.api.logout import LogoutRequest
from sidecar.api.refresh import RefreshRequest, Rotation
from sidecar.auth.session import SessionKey
from sidecar.sessions.memory.local import LocalStore
from sidecar.telemetry.audit import LOGGER, Event
from tests.api.control_plane import BROWSER, bearer, make_services, with_cookie

if TYPE_CHECKING:
    import pytest

    from sidecar.auth.session import Grant
    from tests.api.control_plane import Api, Clock, Starter

# A wrong password and one typed into the name field; neither text occurs elsewhere in a record.
WRONG: Final = "hunter2-wrong-password"
AS_NAME: Final = "hunter2-typed-as-the-name"


class BrokenStore(LocalStore):
    """A local store that fails with a bug while `broken` is set."""

    broken = False

    async def write(self, grant: Grant) -> bool:
        """Write the grant, or raise RuntimeError while `broken` is set."""
        if self.broken:
            raise RuntimeError("a bug")
        return await super().write(grant)


async def _use_everything(api: Api) -> list[str]:
    """Use every endpoint correctly and wrongly, and return all secrets that were used."""
    client = api.client
    secrets = ["pw-alice", WRONG, AS_NAME]
    tokens, value = await api.login(), await api.cookie()
    secrets += [tokens["access_token"], tokens["refresh_token"], value]
    for username, password in (("alice", WRONG), (AS_NAME, "x"), ("gone", "pw-gone")):
        form = {"username": username, "password": password}
        await client.post("/auth/login", json=form)
        await client.post("/auth/login", data=form, headers=BROWSER)
    await client.post("/auth/login", data=WRONG, headers={"Content-Type": "application/json"})
    await client.get(f"/auth/login?rd=/{WRONG}&password={WRONG}")
    new = await (await api.refresh(tokens["refresh_token"])).json()
    secrets += [new["access_token"], new["refresh_token"]]
    await api.refresh(tokens["refresh_token"])
    await api.refresh(new["access_token"])
    for headers in (bearer(new["access_token"]), bearer(WRONG), with_cookie(value)):
        await client.get("/auth/userinfo", headers=headers)
        await client.get("/auth/sessions", headers=headers)
        await client.delete(f"/auth/sessions/{WRONG}", headers=headers)
    api.clock.now += 60
    await api.refresh(tokens["refresh_token"])
    for headers in (bearer(new["access_token"]), bearer(WRONG), with_cookie(value)):
        await client.post("/auth/logout?all=true", headers=headers)
        await client.post("/auth/logout", headers=headers)
    await client.post("/auth/logout", json={"refresh_token": new["refresh_token"]})
    return secrets


async def test_no_secret_is_logged(
    start: Starter, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """No logger writes a secret, even at the lowest level and when requests fail."""
    store = BrokenStore(clock)
    api = await start(store)
    with caplog.at_level(logging.DEBUG):
        secrets = await _use_everything(api)
        last = await api.login()
        store.broken = True
        assert (await api.refresh(last["refresh_token"])).status == 500
    secrets += [last["access_token"], last["refresh_token"]]
    formatter = logging.Formatter()
    written = [f"{formatter.format(record)} {vars(record)}" for record in caplog.records]
    assert [line for line in written if "a bug" in line]
    assert {record.name for record in caplog.records} >= {
        *("sidecar.audit", "sidecar.api.callers", "sidecar.api.problems"),
    }
    assert {vars(record)["event"] for record in caplog.records if record.name == LOGGER} == {
        *(Event.LOGIN, Event.REFRESH, Event.LOGOUT, Event.LOGOUT_ALL),
    }
    for secret in secrets:
        # A signature alone is enough for an attacker who knows the rest of the token.
        for part in (secret, secret.rpartition(".")[2]):
            assert not [line for line in written if part in line]


def test_reprs_show_no_secret(clock: Clock) -> None:
    """The `repr` of every object that holds a secret hides it, and so do messages built from it."""
    services = make_services(clock)
    services.passwords.close()
    pair = issue_pair(
        services.config.current.issuer,
        new_login("alice", {}, clock.now),
        ClientInfo("agent", "192.0.2.7"),
        clock.now,
        session_key=SessionKey.SHA256,
    )
    secret = pair.refresh_token
    shown = [
        pair,
        Credentials(username="alice", password=secret),
        RefreshRequest(secret),
        LogoutRequest(secret),
        Rotation(services, secret.encode(), ClientInfo("", ""), clock.now),
        services.config.current.users,
        services.passwords,
    ]
    assert secret in msgspec.json.encode(pair).decode()
    for each in shown:
        assert secret not in repr(each)
        assert pair.access_token not in repr(each)
