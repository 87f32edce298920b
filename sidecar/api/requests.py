"""Reads requests for the handlers: bodies within limits, credentials, client and origin.

Turns aiohttp's requests into plain values. Decides nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec

from sidecar.api.grants import ClientInfo
from sidecar.api.problems import Refusal
from sidecar.api.redirects import parse_origin, safe_redirect
from sidecar.api.services import SERVICES
from sidecar.auth.same_origin import is_same_origin
from sidecar.wire.client_address import last_client
from sidecar.wire.forwarded import with_port
from sidecar.wire.head import RequestHead

if TYPE_CHECKING:
    from aiohttp import web

T = TypeVar("T")

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
BODY_LIMIT: Final = 64 * 1024  # bytes
BODY_TIMEOUT: Final = 10.0  # seconds for the whole body

_LOCAL: Final = frozenset(("localhost", "127.0.0.1", "::1"))
_FORM_FIELDS: Final = 20
_TEXT_LIMIT: Final = 256  # characters of a user agent that are kept


async def read_json(request: web.Request, kind: type[T], expected: str) -> T:
    """The body as `kind`. Raises Refusal: 400 with what was expected, 408, 413 or 415."""
    if request.content_type != JSON:
        raise Refusal(415, f"Expected {expected} as {JSON}.", headers={"Accept": JSON})
    body = await _read(request)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:  # its text has names and types, never values
        raise Refusal(400, f"Expected {expected}. {_sentence(str(error))}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refusal(400, f"Expected {expected}. The body is not valid JSON.") from None


async def read_form(request: web.Request) -> dict[str, str]:
    """The form's fields; a repeated field has its last value. Raises Refusal: 400, 408 or 413."""
    body = await _read(request)
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_FORM_FIELDS
        )
    except ValueError:  # includes bytes that are not UTF-8
        raise Refusal(400, f"Expected {FORM} in UTF-8.") from None
    return dict(pairs)


async def _read(request: web.Request) -> bytes:
    # A few compressed bytes can become gigabytes (RFC 9110 section 15.5.16).
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        headers = {"Accept-Encoding": "identity"}
        raise Refusal(415, "Expected a body without content encoding.", headers=headers)
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.read()
    except TimeoutError:
        raise Refusal(408, "The request's body did not arrive in time.") from None


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def request_head(request: web.Request) -> RequestHead:
    """The head for the gate, with the fields that the data plane's parser would fill."""
    head = RequestHead()
    head.method = request.method.encode()
    head.path = request.path
    head.host = _octets(host(request))
    head.authorization = _header(request, "Authorization")
    cookies = request.headers.getall("Cookie", [])
    head.cookie = _octets("; ".join(cookies)) if cookies else None
    head.origin = _header(request, "Origin")
    head.fetch_site = _header(request, "Sec-Fetch-Site")
    head.repeated = frozenset(
        name.lower().encode()
        for name in ("Authorization", "Origin", "Sec-Fetch-Site")
        if len(request.headers.getall(name, [])) > 1
    )
    return head


def from_own_page(request: web.Request) -> bool:
    """Whether a page of this origin, or of one that is trusted as much, sent this request."""
    head = request_head(request)
    return is_same_origin(head) or request.app[SERVICES].config.current.cors.trusts(head)


def host(request: web.Request) -> str:
    """The authority that the client asked for, from the data plane's forwarded headers."""
    name = "X-Forwarded-Host" if "X-Forwarded-Host" in request.headers else "Host"
    return with_port(request.headers.get(name, ""), request.headers.get("X-Forwarded-Port", ""))


def prefix(request: web.Request) -> str:
    """What proxies have removed from the start of the client's path; empty if nothing.

    The data plane passes on only what a trusted proxy says, as a path without a final slash.
    """
    return request.headers.get("X-Forwarded-Prefix", "")


def scheme(request: web.Request) -> str:
    """`http` or `https`, from the data plane's forwarded header."""
    return "https" if request.headers.get("X-Forwarded-Proto") == "https" else "http"


def keeps_secure_cookies(request: web.Request) -> bool:
    """Whether the browser that sent this keeps a Secure cookie of the answer, as far as it shows.

    Browsers send Sec-Fetch-Site over HTTPS and to localhost only (W3C Fetch Metadata section 2),
    also through a proxy whose X-Forwarded-Proto is not trusted.
    """
    if scheme(request) == "https" or "Sec-Fetch-Site" in request.headers:
        return True
    origin = parse_origin(f"http://{host(request)}")
    name = urlsplit(origin).hostname if origin else None
    return name is not None and (name in _LOCAL or name.endswith(".localhost"))


def client_of(request: web.Request) -> ClientInfo:
    """Who the client is: its user agent, and its address as far as proxies can be trusted.

    The data plane adds its peer at the end of X-Forwarded-For, and removes what came before unless
    the peer is a trusted proxy.
    """
    networks = request.app[SERVICES].config.current.trusted_proxies
    return ClientInfo(
        user_agent=_printable(request.headers.get("User-Agent", "")),
        address=last_client(",".join(request.headers.getall("X-Forwarded-For", [])), networks),
    )


def redirect_target(request: web.Request, rd: str) -> str | None:
    """`rd` if it leads to this request's origin or an allowed one, else None."""
    own = parse_origin(f"{scheme(request)}://{host(request)}") or ""
    return safe_redirect(rd, own, request.app[SERVICES].config.current.redirect_origins)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:_TEXT_LIMIT])


def _header(request: web.Request, name: str) -> bytes | None:
    value = request.headers.get(name)
    return None if value is None else _octets(value)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # how aiohttp decoded it
