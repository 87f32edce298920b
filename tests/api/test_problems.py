"""Every error is a problem document with the common headers and without internal details."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn

import pytest
from aiohttp import web

from sidecar.api.problems import Refusal, problem_middleware, unauthorized, unavailable
from sidecar.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.test_utils import TestClient
    from pytest_aiohttp import AiohttpClient

    Client = TestClient[web.Request, web.Application]


async def _fine(request: web.Request) -> web.Response:
    return web.Response(text="fine", headers={"Cache-Control": "max-age=60"})


async def _read(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


def _raising(error: Exception) -> Callable[[web.Request], Awaitable[NoReturn]]:
    async def handler(request: web.Request) -> NoReturn:
        raise error

    return handler


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    """A client of an application whose handlers fail in all possible ways."""
    app = web.Application(middlewares=[problem_middleware], client_max_size=64 * 1024)
    app.router.add_get("/fine", _fine)
    app.router.add_post("/read", _read)
    app.router.add_get("/moved", _raising(web.HTTPFound("/fine")))
    app.router.add_get("/refused", _raising(Refusal(409, "Not now.", error="code")))
    app.router.add_get("/challenged", _raising(unauthorized("Who are you?")))
    app.router.add_get("/busy", _raising(unavailable("Too many.")))
    app.router.add_get("/store", _raising(StoreUnavailable("redis://user:secret@host")))
    app.router.add_get("/broken", _raising(RuntimeError("inner workings")))
    return await aiohttp_client(app)


@pytest.mark.parametrize(
    ("method", "path", "status", "title", "detail"),
    [
        pytest.param("GET", "/refused", 409, "Conflict", "Not now.", id="refusal"),
        pytest.param(
            "GET",
            "/nothing",
            404,
            "Not Found",
            "There is nothing at this address.",
            id="unknown-path",
        ),
        pytest.param(
            "POST",
            "/fine",
            405,
            "Method Not Allowed",
            "This address does not answer this method.",
            id="wrong-method",
        ),
        pytest.param(
            "GET",
            "/store",
            503,
            "Service Unavailable",
            "The session store cannot be reached now.",
            id="store-away",
        ),
        pytest.param(
            "GET",
            "/broken",
            500,
            "Internal Server Error",
            "Something went wrong on our side.",
            id="fault",
        ),
    ],
)
async def test_problem_document(
    client: Client, *, method: str, path: str, status: int, title: str, detail: str
) -> None:
    """The body has the members of RFC 9457 and the request id, and repeats the HTTP status."""
    answer = await client.request(method, path, headers={"X-Request-Id": "abc-123"})
    assert answer.status == status
    assert answer.content_type == "application/problem+json"
    document = await answer.json(content_type=None)
    document.pop("error", None)
    assert document == {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": "abc-123",
    }


async def test_headers_of_refusals(client: Client) -> None:
    """401 has a challenge, 503 has Retry-After, 405 has Allow, and an error code is kept."""
    assert (await client.get("/challenged")).headers["WWW-Authenticate"].startswith("Bearer ")
    assert int((await client.get("/busy")).headers["Retry-After"]) > 0
    assert int((await client.get("/store")).headers["Retry-After"]) > 0
    assert "GET" in (await client.post("/fine")).headers["Allow"]
    refused = await (await client.get("/refused")).json(content_type=None)
    assert refused["error"] == "code"


async def test_a_redirect_is_no_error(client: Client) -> None:
    """A redirect raised by a handler is passed on unchanged."""
    answer = await client.get("/moved", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (302, "/fine")


async def test_body_over_the_limit(client: Client) -> None:
    """A body of 64 KiB is accepted, and a body one octet larger gets 413."""
    assert (await client.post("/read", data=b"x" * 65536)).status == 200
    answer = await client.post("/read", data=b"x" * 65537)
    assert answer.status == 413
    assert (await answer.json(content_type=None))["detail"].endswith("larger than 64 KiB.")


@pytest.mark.parametrize("path", ["/fine", "/nothing", "/broken", "/challenged"])
async def test_common_headers(client: Client, path: str) -> None:
    """Every response, good or bad, has the security headers and a Server header without version."""
    headers = (await client.get(path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Server"] == "sidecar"
    assert headers["Cache-Control"] == ("max-age=60" if path == "/fine" else "no-store")


async def test_browsers_get_a_page(client: Client) -> None:
    """A browser gets an HTML page with the same text as the problem document and no scripts."""
    answer = await client.get("/broken", headers={"Accept": "text/html", "X-Request-Id": "abc-123"})
    page = await answer.text()
    assert answer.status == 500
    assert answer.content_type == "text/html"
    assert "<h1>Internal Server Error</h1>" in page
    assert "Something went wrong on our side." in page
    assert "abc-123" in page
    assert "script" not in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("", id="empty"),
        pytest.param("<script>", id="markup"),
        pytest.param("a" * 129, id="too-long"),
    ],
)
async def test_an_odd_request_id_is_replaced(client: Client, given: str) -> None:
    """An invalid request id is replaced by a new one and not repeated."""
    answer = await client.get("/refused", headers={"X-Request-Id": given})
    made = (await answer.json(content_type=None))["request_id"]
    assert len(made) == 32
    assert made != given


async def test_a_fault_is_logged_once_and_told_to_nobody(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception is logged once with the request id and hidden from the client."""
    with caplog.at_level(logging.DEBUG, logger="sidecar"):
        answer = await client.get("/broken", headers={"X-Request-Id": "abc-123"})
    assert "inner workings" not in await answer.text()
    assert "Traceback" not in await answer.text()
    [record] = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert record.exc_info is None  # because the exception's text may quote the request
    assert vars(record)["trace"].endswith("RuntimeError")
    assert ", in handler" in vars(record)["trace"]
    assert vars(record)["request_id"] == "abc-123"


async def test_a_refusal_is_no_fault(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Refusals and an unreachable store are not logged as errors."""
    with caplog.at_level(logging.DEBUG, logger="sidecar"):
        await client.get("/refused")
        await client.get("/store")
        await client.get("/nothing")
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
