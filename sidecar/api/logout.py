"""Logging out: any credential of a login ends the whole login, everywhere.

A token issued here ends its login even after it has expired, because its refresh token may still be
valid. The answer is 204 only after the store has accepted the logout. A token of another issuer
that is valid until revoked is revoked, and with it its login there; with `?all=true`, so is every
token that its user got before now.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from sidecar.api.audit import audit_request, identify
from sidecar.api.callers import denied, require_caller, wait_for_keys
from sidecar.api.cookies import clear_cache
from sidecar.api.problems import Refusal
from sidecar.api.requests import (
    FORM,
    JSON,
    from_own_page,
    host,
    prefix,
    read_form,
    read_json,
    redirect_target,
    request_head,
)
from sidecar.api.services import SERVICES
from sidecar.auth.claimed_issuer import claimed_issuer
from sidecar.auth.credentials import (
    Bearer,
    SessionCookie,
    find_cookies,
    find_session_cookies,
    parse_credentials,
)
from sidecar.auth.denylist import (
    RevocationKind,
    content_digest,
    revocation_name,
    revocations_of_token,
)
from sidecar.auth.reason import Reason
from sidecar.auth.revocation import Revocation
from sidecar.auth.session import refresh_id, token_id
from sidecar.auth.strict_json import parse_object
from sidecar.auth.verified import SessionMode
from sidecar.errors import StoreUnavailable
from sidecar.telemetry.audit import NOBODY, Event, Subject

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.api.services import Services
    from sidecar.auth.verified import Verified

_EXPECTED: Final = 'nothing, or a JSON object with the text "refresh_token"'
_EVERYWHERE: Final = "logout everywhere"
_FLAGS: Final = {"": False, "false": False, "true": True}


class LogoutRequest(msgspec.Struct):
    """The optional body of a logout."""

    refresh_token: str = ""

    def __repr__(self) -> str:
        return "<LogoutRequest>"


@dataclass(frozen=True, slots=True)
class _Login:
    """A login to end, by a token id, a session id, or both.

    `token` is the token that was shown, if it was valid, and `digest` its content digest. `subject`
    is whose login it is, as far as a token says that.
    """

    token_id: str = ""
    sid: str = ""
    token: Verified | None = None
    digest: bytes = b""
    subject: Subject = NOBODY


async def log_out(request: web.Request) -> web.Response:
    """End the logins of the request's credentials, or with `?all=true` all logins of the user."""
    everywhere = _FLAGS.get(request.query.get("all", ""))
    if everywhere is None:
        raise Refusal(400, 'Expected "true" or "false" for "all".')
    browser = request.content_type == FORM
    fields = await read_form(request) if browser else {}
    refresh_token = await _read_refresh_token(request)
    logins = await _presented(request, refresh_token)
    if everywhere and logins:
        await _end_all(request, refresh_token, logins[0].token)
    for login in logins:
        await _end(request, login)
    if browser:
        target = redirect_target(request, fields.get("rd", ""))
        if not target:
            page = request.app[SERVICES].config.current.sign_in
            target = page.signed_out(prefix=prefix(request))
        response = web.Response(status=303, headers={"Location": target})
    elif logins:
        response = web.Response(status=204)
    else:
        raise denied(request, Reason.NO_CREDENTIALS)
    if logins:  # otherwise any page could make browsers empty their cache
        clear_cache(response)
    cookie = request.app[SERVICES].session_cookie
    if found := find_cookies(request_head(request).cookie or b"", cookie.name.encode()):
        cookie.clear(response)
        if len(found) > 1:
            cookie.clear_others(response, host(request))
    return response


async def _read_refresh_token(request: web.Request) -> bytes:
    if request.content_type != JSON or not await request.read():
        return b""
    asked = await read_json(request, LogoutRequest, _EXPECTED)
    return asked.refresh_token.encode()


async def _presented(request: web.Request, refresh_token: bytes) -> list[_Login]:
    """The logins whose credentials the request carries. Raises Refusal if none can be used."""
    services = request.app[SERVICES]
    head, verifier = request_head(request), services.config.current.verifier
    found: list[_Login | Reason] = []
    name = services.session_cookie.name.encode()
    credentials = parse_credentials(head, name, verifier.issuers, max_token=verifier.max_token)
    if isinstance(credentials, Bearer):
        found.append(await _login_of_bearer(request, credentials.token))
    elif isinstance(credentials, SessionCookie) or credentials is Reason.COOKIE_REPEATED:
        if not from_own_page(request):
            raise denied(request, Reason.CROSS_ORIGIN)
        cookies = find_session_cookies(head.cookie or b"", name)
        found += [_Login(token_id(each.value, services.session_key)) for each in cookies]
    elif credentials is not Reason.NO_CREDENTIALS:
        found.append(credentials)
    if refresh_token:
        verify = services.config.current.verifier.verify_refresh
        found.append(_login_of(refresh_token, verify, services.clock()))
    logins = [each for each in found if isinstance(each, _Login)]
    for reason in found:
        if isinstance(reason, Reason) and not logins:
            raise denied(request, reason)
    return logins


async def _login_of_bearer(request: web.Request, token: bytes) -> _Login | Reason:
    """The login of an access token, if need be after the keys of its issuer have been fetched."""
    services = request.app[SERVICES]
    identifier, now = token_id(token, services.session_key), services.clock()
    login = _login_of(token, services.config.current.verifier.verify_access, now, identifier)
    if login is Reason.KEY_UNKNOWN and await wait_for_keys(request, claimed_issuer(token)):
        verify, now = services.config.current.verifier.verify_access, services.clock()
        login = _login_of(token, verify, now, identifier)
    return login


def _login_of(
    token: bytes,
    verify: Callable[[bytes, float], Verified | Reason],
    now: float,
    identifier: str = "",
) -> _Login | Reason:
    """The login of a token, even of an expired one, which counts as it did before it expired.

    The sid of another issuer's token does not name a login here.
    """
    verified = verify(token, now)
    if verified is Reason.EXPIRED:
        claims = parse_object(urlsafe_b64decode(token.split(b".")[1] + b"==")) or {}
        before = verify(token, claims["exp"] - 1)  # a date, or it would not have expired
        if isinstance(before, Reason):
            return _Login(identifier)
        return _Login(identifier, _own_sid(before), subject=_subject_of(before))
    if isinstance(verified, Reason):
        return verified
    digest, subject = content_digest(token), _subject_of(verified)
    return _Login(identifier, _own_sid(verified), verified, digest, subject)


def _subject_of(token: Verified) -> Subject:
    return Subject(token.subject, token.issuer, token.session_id)


def _own_sid(token: Verified) -> str:
    return token.session_id if token.local else ""


async def _end(request: web.Request, login: _Login) -> None:
    """End this login by its token id and its sid, because the store may know either."""
    services = request.app[SERVICES]
    store, token = services.store, login.token
    subject = login.subject if login.subject.user else await _owner(request, login)
    if subject.user:
        identify(request, subject.user, issuer=subject.issuer, sid=subject.sid)
    if token is not None and token.session_mode is SessionMode.DENYLIST:
        until = services.clock() + services.longest
        await store.revocations.revoke(revocations_of_token(token, login.digest, until))
    if login.token_id:
        await store.revoke_token(login.token_id)
    if login.sid:
        await store.revoke_session(login.sid)
    audit_request(request, "logout", Event.LOGOUT, subject)


async def _owner(request: web.Request, login: _Login) -> Subject:
    """Whose login it is, as far as the store knows: a cookie itself does not say."""
    services = request.app[SERVICES]
    session = services.store.last_known(login.token_id)
    if session is None:
        with suppress(StoreUnavailable):
            session = await services.store.get(login.token_id)
    if session is None:
        return Subject(sid=login.sid)
    return Subject(session.sub, services.config.current.issuer.issuer, session.sid)


async def _end_all(request: web.Request, refresh_token: bytes, token: Verified | None) -> None:
    """End every login of the user. This requires a live credential, not an expired or ended one."""
    services = request.app[SERVICES]
    subject = await _refreshable(services, refresh_token)
    if not subject:
        caller = await require_caller(request)
        subject = caller.subject
        if not caller.local:
            if token is not None:
                await _revoke_all(request, token)
            return
    ended = await services.store.revoke_user(subject)
    who = Subject(subject, services.config.current.issuer.issuer)
    audit_request(request, _EVERYWHERE, Event.LOGOUT_ALL, who, more={"ended": ended})


async def _revoke_all(request: web.Request, token: Verified) -> None:
    """Revoke everything that this issuer gave this user before now, by the issuer's clock.

    How far that clock is ahead is known as far as tokens showed it. More would refuse the token of
    a user who logs in again at once. A user here with the same name is another person and keeps
    their logins.
    """
    services = request.app[SERVICES]
    if token.session_mode is not SessionMode.DENYLIST:
        return
    now = services.clock()
    before = now + services.config.current.verifier.clock_ahead(token.issuer)
    until = max(now + services.longest, token.expires)
    name = revocation_name(RevocationKind.USER, token.issuer, token.subject)
    await services.store.revocations.revoke({name: Revocation(before, until)})
    audit_request(request, _EVERYWHERE, Event.LOGOUT_ALL, Subject(token.subject, token.issuer))


async def _refreshable(services: Services, refresh_token: bytes) -> str:
    """The subject of a live refresh token, or an empty text."""
    verified = services.config.current.verifier.verify_refresh(refresh_token, services.clock())
    if isinstance(verified, Reason):
        return ""
    record = await services.store.get_refresh(refresh_id(refresh_token))
    if record is None or record.used_at is not None or record.sid != verified.session_id:
        return ""
    return record.sub
