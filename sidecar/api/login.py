"""Logging in with a password: tokens for a program that posts JSON, a cookie for a browser's form.

An unknown user, a disabled user and a wrong password get the same answer after one password check,
and the same limits on further attempts. Every login is a new session.
"""

from __future__ import annotations

import contextlib
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from sidecar.api.audit import audit_request, identify
from sidecar.api.callers import find_subject
from sidecar.api.grants import TokenPair, issue_cookie, issue_pair, new_login
from sidecar.api.guesses import Blocked
from sidecar.api.limited_check import limited_check
from sidecar.api.pages import SIGN_IN_POLICY
from sidecar.api.passwords import Verdict
from sidecar.api.problems import (
    CHALLENGE,
    RETRY_AFTER,
    STORE_UNREACHABLE,
    Refusal,
    json_response,
    unauthorized,
    unavailable,
)
from sidecar.api.requests import (
    FORM,
    client_of,
    from_own_page,
    host,
    keeps_secure_cookies,
    prefix,
    read_form,
    read_json,
    redirect_target,
    request_head,
)
from sidecar.api.services import SERVICES
from sidecar.api.session_limit import keep_limit
from sidecar.auth.credentials import find_cookies, find_session_cookies
from sidecar.auth.reason import Reason
from sidecar.auth.session import token_id
from sidecar.errors import StoreUnavailable
from sidecar.telemetry.audit import Event, Subject

if TYPE_CHECKING:
    from sidecar.api.users import User
    from sidecar.auth.session import Grant

_EXPECTED: Final = 'a JSON object with the texts "username" and "password"'
_EXPECTED_FORM: Final = (
    'Expected a form with the fields "username" and "password"; '
    "a JSON object is sent with Content-Type: application/json."
)
_REFUSED: Final = "login refused"  # in the log
_WRONG: Final = "Wrong user name or password."
_BUSY: Final = "Too many people are signing in just now. Try again in a moment."
_LIMITED: Final = "Too many failed attempts to sign in. Try again in {}."
_NOT_KEPT: Final = (
    "This page was opened over plain HTTP. Browsers do not keep a sign-in there, so signing in "
    "leads back to this page. Open it with https:// instead."
)
_OUTSIDE: Final = (
    "This page was opened at an address to which its session cookie does not belong. Browsers do "
    "not keep a sign-in there, so signing in leads back to this page. Open it under {} instead."
)
_TOO_MANY: Final = (
    "You are signed in too many times already. Sign out somewhere else, or wait until an earlier "
    "sign-in has expired."
)
_ENDED: Final = "This login was ended before it was complete. Sign in again."


class Method(StrEnum):
    """How a user logs in, as the metric's label: with JSON or with the form."""

    PASSWORD = "password"
    FORM = "form"


class Result(StrEnum):
    """The outcome of a login, as the metric's label."""

    SUCCESS = "success"
    REFUSED = "refused"  # wrong user or password
    ENDED = "ended"  # the login was ended before it was complete
    TOO_MANY = "too_many"  # the user has as many logins as MAX_SESSIONS allows
    LIMITED = "limited"  # there were too many failed attempts before
    BUSY = "busy"  # too many passwords were being checked
    ABORTED = "aborted"  # the client disconnected before its password was checked
    UNAVAILABLE = "unavailable"  # the session store could not be reached


_RESULTS: Final = {
    Verdict.RIGHT: Result.REFUSED,  # of a user who is disabled
    Verdict.WRONG: Result.REFUSED,
    Verdict.BUSY: Result.BUSY,
    Verdict.GONE: Result.ABORTED,
}


class Credentials(msgspec.Struct):
    """The body of a login: the user's name and password."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "<Credentials>"


async def log_in(request: web.Request) -> web.Response:
    """Log in: JSON gets a pair of tokens, a form gets a cookie and a redirect."""
    if request.content_type == FORM:
        return await _log_in_browser(request)
    services = request.app[SERVICES]
    found = await _check(request, Method.PASSWORD, await read_json(request, Credentials, _EXPECTED))
    if isinstance(found, Blocked):
        headers = {"Retry-After": str(found.retry_after)}
        raise Refusal(429, _limited(found), headers=headers)
    if found is Result.REFUSED:
        raise unauthorized(_WRONG)
    if isinstance(found, Result):
        raise unavailable("Too many passwords are being checked now.")
    now = services.clock()
    pair = issue_pair(
        services.config.current.issuer,
        new_login(found.name, found.claims, now),
        client_of(request),
        now,
        session_key=services.session_key,
    )
    await _write(request, Method.PASSWORD, pair.grant)
    return token_response(pair, now)


async def show_login(request: web.Request) -> web.Response:
    """The sign-in page. A user who is signed in can also continue or sign out there."""
    return _page(
        request,
        rd=redirect_target(request, request.query.get("rd", "")) or "",
        notice="You are signed out." if "signed-out" in request.query else "",
        subject=await find_subject(request),
    )


def token_response(pair: TokenPair, now: float) -> web.Response:
    """A token answer (RFC 6749 section 5.1)."""
    body = {
        "access_token": pair.access_token,
        "refresh_token": pair.refresh_token,
        "token_type": "Bearer",
        "expires_in": max(int(pair.grant.session.exp - now), 0),
    }
    return json_response(body)


async def _log_in_browser(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    fields = await read_form(request)
    if "username" not in fields or "password" not in fields:
        raise Refusal(400, _EXPECTED_FORM)
    if not from_own_page(request):  # another site's form must not log anyone in
        audit_request(
            request, _REFUSED, Event.LOGIN, result=Reason.CROSS_ORIGIN.label, method=Method.FORM
        )
        raise Refusal(403, "The sign-in form was sent from another site.")
    target = redirect_target(request, fields.get("rd", ""))
    name = fields["username"]
    found = await _check(request, Method.FORM, Credentials(name, fields["password"]))
    if isinstance(found, Blocked):
        page = _page(request, rd=target or "", username=name, notice=_limited(found), status=429)
        page.headers["Retry-After"] = str(found.retry_after)
        return page
    if found is Result.REFUSED:
        return _page(request, rd=target or "", username=name, error=_WRONG, status=401)
    if isinstance(found, Result):
        return _page(request, rd=target or "", username=name, notice=_BUSY, status=503)
    now = services.clock()
    value, grant = issue_cookie(
        services.config.current.issuer,
        new_login(found.name, found.claims, now),
        client_of(request),
        now,
        session_key=services.session_key,
    )
    await _end_presented(request)
    await _write(request, Method.FORM, grant)
    response = web.Response(status=303, headers={"Location": target or f"{prefix(request)}/"})
    cookie = services.session_cookie
    if find_cookies(request_head(request).cookie or b"", cookie.name.encode()):
        cookie.clear_others(response, host(request))
    cookie.give(response, value, grant.session.exp - now)
    return response


async def _end_presented(request: web.Request) -> None:
    """End the session of the browser's cookie, or cookies, which the new login replaces."""
    services = request.app[SERVICES]
    name, header = services.session_cookie.name.encode(), request_head(request).cookie or b""
    for each in find_session_cookies(header, name):
        # The new login must not fail if the old session can be neither ended nor remembered.
        with contextlib.suppress(StoreUnavailable):
            await services.store.revoke_token(token_id(each.value, services.session_key))


async def _check(
    request: web.Request, method: Method, credentials: Credentials
) -> User | Result | Blocked:
    """The user with this name and password, after exactly one password check for any name.

    Or Blocked, before any check, if there were too many failed attempts.
    """
    services = request.app[SERVICES]
    current, address = services.config.current, client_of(request).address
    expected = current.users.hash_of(credentials.username)
    # An unknown name may be a password that was typed into the wrong field, so it is not logged.
    known = credentials.username if current.users.find(credentials.username) else ""
    attempt = services.guesses.attempt(credentials.username, address, current.guesses)
    outcome = await limited_check(request, expected, credentials.password, attempt, known)
    # A reload meanwhile may have removed or changed the user.
    user = services.config.current.users.find(credentials.username)
    if (
        (outcome is Verdict.RIGHT and user is not None)
        and not user.disabled
        and user.password_hash == expected
    ):
        await services.guesses.forgive(attempt)
        return user
    result = Result.LIMITED if isinstance(outcome, Blocked) else _RESULTS[outcome]
    services.metrics.logins[method, result] += 1
    if isinstance(outcome, Blocked):  # logged when the block began
        return outcome
    audit_request(request, _REFUSED, Event.LOGIN, Subject(known), result=result, method=method)
    return result


def _limited(blocked: Blocked) -> str:
    minutes = -(-blocked.retry_after // 60)
    if blocked.retry_after < 10:
        return _LIMITED.format("a moment")
    return _LIMITED.format(f"{minutes} minutes" if minutes > 1 else "a minute")


async def _write(request: web.Request, method: Method, grant: Grant) -> None:
    """Write a login and count it. The client gets its credentials only after this.

    Raises Refusal: 503 if the store cannot be reached, 409 if the login was ended meanwhile, 403 if
    the user has too many. The user's password was right then, so 401 would be wrong; after a 409, a
    second attempt is a new login.
    """
    services = request.app[SERVICES]
    session = grant.session
    identify(request, session.sub, issuer=services.config.current.issuer.issuer, sid=session.sid)
    try:
        live = await services.store.write(grant)
        kept = live and await keep_limit(
            services.config.current.session_limit, services.store, session
        )
    except StoreUnavailable:
        services.metrics.logins[method, Result.UNAVAILABLE] += 1
        audit_request(request, _REFUSED, Event.LOGIN, result=Result.UNAVAILABLE, method=method)
        raise unavailable(STORE_UNREACHABLE) from None
    if not live:
        services.metrics.logins[method, Result.ENDED] += 1
        message = "login ended before it was complete"
        audit_request(request, message, Event.LOGIN, result=Result.ENDED, method=method)
        raise Refusal(409, _ENDED)
    if not kept:
        services.metrics.logins[method, Result.TOO_MANY] += 1
        message = "login refused: the user has too many"
        audit_request(request, message, Event.LOGIN, result=Result.TOO_MANY, method=method)
        raise Refusal(403, _TOO_MANY)
    services.metrics.logins[method, Result.SUCCESS] += 1
    audit_request(request, "login", Event.LOGIN, method=method)


def _page(
    request: web.Request,
    *,
    rd: str,
    error: str = "",
    notice: str = "",
    username: str = "",
    subject: str = "",
    status: int = 200,
) -> web.Response:
    cookie = request.app[SERVICES].session_cookie
    if not (notice or subject):
        if not keeps_secure_cookies(request):
            notice = _NOT_KEPT
        elif not cookie.covers(host(request)):
            notice = _OUTSIDE.format(cookie.domain)
    page = request.app[SERVICES].config.current.sign_in
    text = page.render(
        rd=rd,
        error=error,
        notice=notice,
        username=username,
        subject=subject,
        prefix=prefix(request),
    )
    response = web.Response(status=status, text=text, content_type="text/html")
    response.headers["Content-Security-Policy"] = SIGN_IN_POLICY
    if status == 401:
        response.headers["WWW-Authenticate"] = CHALLENGE
    if status == 503:
        response.headers["Retry-After"] = RETRY_AFTER
    return response
