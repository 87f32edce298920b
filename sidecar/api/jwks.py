"""Publishes the public keys of access tokens as a JWK set (RFC 7517); never a secret."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from sidecar.api.problems import Refusal
from sidecar.api.services import SERVICES
from sidecar.auth.keys import public_jwks

# Long enough to save requests, short enough that verifiers know a new key before the old one ends.
_CACHING: Final = "public, max-age=300"


async def show_keys(request: web.Request) -> web.Response:
    """The public keys; 404 if tokens are signed with a shared secret only."""
    published = request.app[SERVICES].config.current.published_keys
    keys = [key for key in published if not key.is_symmetric]
    if not keys:
        raise Refusal(404, "Tokens are signed with a shared secret: there are no public keys.")
    return web.Response(
        body=public_jwks(keys),
        content_type="application/json",
        headers={"Cache-Control": _CACHING},
    )
