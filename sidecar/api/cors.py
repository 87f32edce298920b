"""CORS of the control plane: answers preflights, and adds the headers to every answer.

`auth.cors` judges the origins. Knows no credentials and no addresses but those of the router.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from sidecar.api.requests import request_head
from sidecar.api.services import SERVICES

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

_METHOD: Final = "Access-Control-Request-Method"


@web.middleware
async def answer_preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer the preflight of an allowed origin with the methods of its address.

    No handler serves OPTIONS. Any other preflight gets 405 like every OPTIONS request, which a
    browser takes for a refusal (Fetch section 4.8).
    """
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as refused:
        policy = request.app[SERVICES].config.current.cors
        announced = request.method == "OPTIONS" and len(request.headers.getall(_METHOD, [])) == 1
        if not announced or not policy.allows(request_head(request)):
            raise
        methods = ", ".join(sorted(refused.allowed_methods)).encode("ascii")
        response = web.Response(status=204)
        _add(response, policy.preflight_lines(methods))
        return response


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add what lets the page of an allowed origin read this answer, before it is sent."""
    policy = request.app[SERVICES].config.current.cors
    if policy:
        _add(response, policy.lines(request_head(request)))


def _add(response: web.StreamResponse, lines: bytes) -> None:
    for line in lines.decode("latin-1").splitlines():
        name, _, value = line.partition(": ")
        response.headers[name] = value
