"""An issuer's key server, whose keys can change and which can be unavailable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from sidecar.auth.asymmetric import pem_key
from sidecar.auth.keys import public_jwks
from tests.auth.forge import private_key, public_pem

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class KeyServer:
    """Publishes the keys last given to `publish`, unless `answer` is replaced.

    `fetches` counts the requests. `stop` and `begin` end and resume serving at the same address.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.fetches = 0
        self.answer: Answer = self._show
        self._document = public_jwks([])
        self.metadata: dict[str, Any] | None = None  # served as OpenID Connect and OAuth metadata
        self.requests: list[web.Request] = []
        self._runner: web.AppRunner | None = None
        self._port = 0

    def __repr__(self) -> str:
        return f"<KeyServer {self.url} fetches={self.fetches}>"

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def origin(self) -> str:
        """The origin at which the server listens; certificates name `localhost`."""
        return (
            f"http://127.0.0.1:{self._port}"
            if self._tls is None
            else f"https://localhost:{self._port}"
        )

    @property
    def url(self) -> str:
        """The URL of the key set."""
        return f"{self.origin}/keys"

    def hang(self) -> asyncio.Event:
        """Answer no request until `answer` is replaced; the event is set when one has arrived."""
        hangs = asyncio.Event()

        async def answer(_: web.Request) -> web.StreamResponse:
            hangs.set()
            await asyncio.Event().wait()
            raise AssertionError

        self.answer = answer
        return hangs

    def publish(self, **algs: str) -> None:
        """Publish exactly these keys, each as `kid=alg`."""
        self._document = public_jwks(
            pem_key("-", public_pem(private_key(alg)), alg, kid=kid) for kid, alg in algs.items()
        )
        self.answer = self._show

    async def begin(self) -> None:
        """Start serving, at the previous address if there was one."""
        app = web.Application()
        app.router.add_get("/keys", self._serve)
        app.router.add_get("/elsewhere", self._show)
        app.router.add_get("/{path:.*}", self._describe)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, "127.0.0.1", self._port, reuse_address=True, ssl_context=self._tls
        )
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.fetches += 1
        self.requests.append(request)
        return await self.answer(request)

    async def _show(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=self._document, content_type="application/jwk-set+json")

    async def _describe(self, request: web.Request) -> web.StreamResponse:
        """Serve the metadata at its well-known paths, and count nothing."""
        self.requests.append(request)
        if self.metadata is None or request.path not in self.metadata:
            raise web.HTTPNotFound
        return web.json_response(self.metadata[request.path])
