"""Serves an application of aiohttp within this program's head limits, and without its disclosures.

aiohttp answers a request that it cannot read with a part of that request and with its version, and
logs the same part. Here, the answer is a fixed problem document, and the log names only the kind
of fault. Knows no routes.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web

from sidecar.api.problems import problem_middleware, unreadable

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from sidecar.wire.head import HeadLimits

logger = logging.getLogger(__name__)

# Seconds at the very end for clients to read the last answers.
_LAST_ANSWER: Final = 0.5
# What the data plane adds to a head: octets to one field (an address, the scheme), and fields.
_ADDED_OCTETS: Final = 1024
_ADDED_FIELDS: Final = 32
_OPTIONS: Final = MappingProxyType(
    {
        "access_log": None,  # it shows queries
        "auto_decompress": False,  # handlers refuse compressed bodies
    }
)


class Runner(web.AppRunner):
    """Runs an application that accepts every head that the data plane accepts with `limits`."""

    def __init__(self, app: web.Application, limits: HeadLimits) -> None:
        super().__init__(app, handle_signals=False, shutdown_timeout=_LAST_ANSWER)
        self._limits = limits

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            max_line_size=self._limits.size,
            max_field_size=self._limits.size + _ADDED_OCTETS,
            max_headers=self._limits.headers + _ADDED_FIELDS,
            **_OPTIONS,
        )


class _Server(web.Server):
    """Makes a `_Protocol` for each connection, and answers what aiohttp would answer itself."""

    def __init__(self, handler: Handler, *, request_factory: Any, **options: Any) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            # aiohttp checks Expect before it calls the application's middleware.
            return await problem_middleware(request, handler)

        super().__init__(cast("Any", answer), request_factory=request_factory)
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=asyncio.get_running_loop(), **self._options)


class _Protocol(web.RequestHandler):
    """One connection. Its errors show nothing of the request."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # contains a part of the request
    ) -> web.StreamResponse:
        """Answer a request that aiohttp cannot read (400) or serve, and close the connection."""
        del message
        level = logging.ERROR if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
        fault = type(exc).__name__
        logger.log(level, "request not served", extra={"status": status, "fault": fault})
        if request.writer.output_size > 0:
            raise ConnectionError("a part of another answer has been sent")
        response = unreadable(status)
        response.force_close()
        return response
