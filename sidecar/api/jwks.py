"""The keys that others verify our access tokens with (RFC 7517); secrets are never among them."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from sidecar.api.problems import Refusal
from sidecar.api.services import SERVICES
from sidecar.auth.keys import public_jwks

# Long enough to spare us, short enough for a new key to be known before the old one is gone.
_CACHING: Final = "public, max-age=300"


async def show_keys(request: web.Request) -> web.Response:
    """Our public keys; 404 when tokens are signed with a shared secret alone."""
    keys = [key for key in request.app[SERVICES].current.published_keys if not key.is_symmetric]
    if not keys:
        raise Refusal(404, "Tokens are signed with a shared secret: there are no public keys.")
    return web.Response(
        body=public_jwks(keys),
        content_type="application/json",
        headers={"Cache-Control": _CACHING},
    )
