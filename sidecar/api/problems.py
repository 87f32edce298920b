"""Errors as problem documents (RFC 9457) or pages, and the middleware that answers with them.

Owns the headers of every answer. Knows no users, tokens or sessions.
"""

from __future__ import annotations

import logging
import re
import secrets
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from sidecar.api.pages import CONTENT_SECURITY_POLICY, error_page
from sidecar.auth.reason import REALM
from sidecar.errors import StoreUnavailable
from sidecar.telemetry.audit import Subject
from sidecar.telemetry.logs import trace_of
from sidecar.wire.caller_line import CALLER_HEADER, write_caller
from sidecar.wire.replies import PROBLEM_TYPE, RETRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.typedefs import Handler

logger = logging.getLogger(__name__)

RETRY_AFTER: Final = str(RETRY_SECONDS)
STORE_UNREACHABLE: Final = "The session store cannot be reached now."
CHALLENGE: Final = f'Bearer realm="{REALM}"'
# The sign-in address that error pages offer; an application without sign-in leaves it out.
SIGN_IN: Final = web.AppKey("sign_in", str)

# Who the request is of, once a handler knows; the data plane's access log names them.
CALLER: Final = web.RequestKey("caller", Subject)
_MADE_ID: Final = web.RequestKey("made_id", str)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
# `Referrer-Policy: no-referrer` would make browsers send `Origin: null` with the sign-in form.
# Strict-Transport-Security is left to the application, because it applies to the whole host.
# Without Access-Control-Allow-Origin no other origin can read these answers.
_EVERY_ANSWER: Final = MappingProxyType(
    {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "Referrer-Policy": "same-origin",
        "Server": "sidecar",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",  # for browsers that do not know frame-ancestors
    }
)
_OUR_FAULT: Final = "Something went wrong on our side."
_DETAILS: Final = MappingProxyType(
    {
        404: "There is nothing at this address.",
        405: "This address does not answer this method.",
        413: "The request's body is larger than 64 KiB.",
    }
)


class Refusal(Exception):
    """Ends a handler; the middleware answers with a problem document or a page.

    `detail` is a sentence for the client, `error` an OAuth error code (RFC 6749) if there is one.
    """

    def __init__(
        self, status: int, detail: str, *, error: str = "", headers: Mapping[str, str] = _NO_HEADERS
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.error = error
        self.headers = headers


def unauthorized(detail: str, *, error: str = "", challenge: str = CHALLENGE) -> Refusal:
    """A 401 with its challenge (RFC 9110 section 15.5.2)."""
    return Refusal(401, detail, error=error, headers={"WWW-Authenticate": challenge})


def unavailable(detail: str) -> Refusal:
    """A 503 that says when to try again."""
    return Refusal(503, detail, headers={"Retry-After": RETRY_AFTER})


def request_id(request: web.Request) -> str:
    """The request's id in logs: the one that it came with, or else a new one."""
    given = request.headers.get("X-Request-Id", "")
    if _REQUEST_ID.fullmatch(given):
        return given
    if _MADE_ID not in request:
        request[_MADE_ID] = secrets.token_hex(16)
    return request[_MADE_ID]


@web.middleware
async def problem_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error with a problem document, and put the common headers on every answer."""
    try:
        response = await handler(request)
    except Refusal as refusal:
        response = _answer(request, refusal)
    except web.HTTPException as error:
        if error.status < 400:
            _complete(error)
            _name_caller(request, error)
            raise
        response = _answer(request, _of_aiohttp(error))
    except StoreUnavailable:
        response = _answer(request, unavailable(STORE_UNREACHABLE))
    except Exception as error:  # noqa: BLE001 - logged below, and answered with 500
        # Without the exception's text, which may quote the request.
        extra = {"request_id": request_id(request), "trace": trace_of(error)}
        logger.error("unexpected error", extra=extra)  # noqa: TRY400
        response = _answer(request, Refusal(500, _OUR_FAULT))
    _complete(response)
    _name_caller(request, response)
    return response


def unreadable(status: int) -> web.Response:
    """The answer to a request of which nothing can be known, not even what it accepts."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": "The request cannot be read." if status < 500 else _OUR_FAULT,
    }
    response = json_response(document, status=status, content_type=PROBLEM_TYPE)
    _complete(response)
    return response


def _complete(response: web.StreamResponse) -> None:
    """Add the headers that every answer has."""
    for name, value in _EVERY_ANSWER.items():
        response.headers.setdefault(name, value)


def _name_caller(request: web.Request, response: web.StreamResponse) -> None:
    """Tell the data plane who the request is of. It takes this line off the answer."""
    caller = request.get(CALLER)
    if caller is not None:
        line = write_caller(caller.user, caller.issuer, caller.sid)
        response.headers[CALLER_HEADER] = line


def _of_aiohttp(error: web.HTTPException) -> Refusal:
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else _NO_HEADERS
    detail = _DETAILS.get(error.status, "The request cannot be answered.")
    return Refusal(error.status, detail, headers=headers)


def json_response(
    body: object,
    *,
    status: int = 200,
    headers: Mapping[str, str] = _NO_HEADERS,
    content_type: str = "application/json",
) -> web.Response:
    """A value as JSON, with a final line break for readers at a terminal."""
    text = msgspec.json.encode(body) + b"\n"
    return web.Response(body=text, status=status, headers=headers, content_type=content_type)


def _sign_in_of(request: web.Request) -> str:
    """Where the client finds the sign-in page; empty without one."""
    path = request.app.get(SIGN_IN, "")
    return path and f"{request.headers.get('X-Forwarded-Prefix', '')}{path}"


def _answer(request: web.Request, refusal: Refusal) -> web.Response:
    title = HTTPStatus(refusal.status).phrase
    if "text/html" in request.headers.get("Accept", ""):
        page = error_page(
            status=refusal.status,
            title=title,
            detail=refusal.detail,
            request_id=request_id(request),
            sign_in=_sign_in_of(request),
        )
        response = web.Response(status=refusal.status, text=page, content_type="text/html")
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    else:
        document = {
            "type": "about:blank",
            "title": title,
            "status": refusal.status,
            "detail": refusal.detail,
            "request_id": request_id(request),
        }
        if refusal.error:
            document["error"] = refusal.error
        response = json_response(document, status=refusal.status, content_type=PROBLEM_TYPE)
    response.headers.update(refusal.headers)
    return response
