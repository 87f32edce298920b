"""Makes what a login or a refresh issues: tokens or a cookie, and the grant to write for them.

Draws every random value (session ids, token ids, cookies). Writes nothing and checks no credential.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from sidecar.auth.session import (
    PASSWORD,
    USED_KEPT,
    Grant,
    RefreshRecord,
    Session,
    SessionKey,
    refresh_id,
    token_id,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.issue import Issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One login, which refreshing continues; `created` is in seconds since the epoch."""

    sid: str
    sub: str
    claims: Mapping[str, Any]
    created: float
    method: str = PASSWORD


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """What the list of a user's logins shows about the client."""

    user_agent: str
    address: str


@dataclass(frozen=True, slots=True)
class UsedToken:
    """The refresh token that a pair replaces: its id, and its record from before its use."""

    refresh_id: str
    record: RefreshRecord


class TokenPair(msgspec.Struct, kw_only=True):
    """An access token, a refresh token, and the grant that the store needs for both."""

    access_token: str
    refresh_token: str
    grant: Grant

    def __repr__(self) -> str:
        return f"<TokenPair of {self.grant.session.sub!r}>"


def new_sid() -> str:
    """A new session id: 128 random bits, drawn again if the text begins with "-".

    A command line, such as that of `sidecar sessions`, takes such a text for an option.
    """
    while (sid := secrets.token_urlsafe(16)).startswith("-"):
        pass
    return sid


def new_login(sub: str, claims: Mapping[str, Any], now: float) -> Login:
    """A login that begins now, with a new session id."""
    return Login(sid=new_sid(), sub=sub, claims=claims, created=now)


def issue_pair(
    issuer: Issuer,
    login: Login,
    client: ClientInfo,
    now: float,
    *,
    session_key: SessionKey,
    after: UsedToken | None = None,
    access_grace: float = 0.0,
) -> TokenPair:
    """A pair of tokens for this login, which begins with it, or continues with it `after` one.

    The access token issued with that one counts for `access_grace` seconds more, if it lives that
    long.
    """
    created = login.created
    generation = 0 if after is None else after.record.generation + 1
    chain = () if after is None else (after.refresh_id, *after.record.previous)
    access = issuer.access(
        *(login.sub, login.sid, login.claims, now, secrets.token_urlsafe(16)),
        created=created,
        method=login.method,
    )
    refresh = issuer.refresh(
        *(login.sub, login.sid, now, secrets.token_urlsafe(16)),
        created=created,
        generation=generation,
    )
    session = _session(
        login, token_id(access.encode(), session_key), issuer.access_expires(now, created)
    )
    record = RefreshRecord(
        sid=login.sid,
        sub=login.sub,
        created=created,
        exp=issuer.refresh_expires(now, created),
        token_id=session.id,
        claims=session.claims,
        method=login.method,
        generation=generation,
        issued=now,
        previous=chain[:USED_KEPT],
        token_before="" if after is None else after.record.token_id,
    )
    until = 0.0
    if after is not None and access_grace > 0:
        until = min(now + access_grace, issuer.access_expires(after.record.issued, created))
    grant = Grant(
        session=session,
        refresh_id=refresh_id(refresh.encode()),
        refresh=record,
        replaces=None if after is None else after.record.token_id,
        replaced_until=until,
        ends=None if after is None else after.record.token_before or None,
        discards=chain[USED_KEPT] if len(chain) > USED_KEPT else None,
        user_agent=client.user_agent,
        address=client.address,
    )
    return TokenPair(access_token=access, refresh_token=refresh, grant=grant)


def issue_cookie(
    issuer: Issuer, login: Login, client: ClientInfo, now: float, *, session_key: SessionKey
) -> tuple[str, Grant]:
    """An opaque cookie value (256 random bits) and its grant, valid as long as a refresh token."""
    value = secrets.token_urlsafe(32)
    expires = issuer.refresh_expires(now, login.created)
    session = _session(login, token_id(value.encode(), session_key), expires)
    grant = Grant(session=session, user_agent=client.user_agent, address=client.address)
    return value, grant


def _session(login: Login, identifier: str, expires: float) -> Session:
    return Session(
        id=identifier,
        sid=login.sid,
        sub=login.sub,
        claims=dict(login.claims),
        created=login.created,
        exp=expires,
        method=login.method,
    )
