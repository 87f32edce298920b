"""Real WSGI applications act on the method that the sidecar decided on, and on no other.

Werkzeug and Django convert methods to upper case, and the middleware below honours overrides as
Werkzeug's own documentation shows it. The first test shows that both get by a proxy that does not
care.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from typing import TYPE_CHECKING, Final

import django
import django.conf
import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import re_path
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from tests.peers.raw_client import build, fetch
from tests.peers.stack import stack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

OVERRIDE: Final = "X-HTTP-Method-Override"
ROUTES: Final = (
    {"path": "/accepting/*", "methods": ["DELETE"], "roles": ["admin"], "name": "accepting-delete"},
    {"path": "/accepting/*", "name": "accepting", "method_override": OVERRIDE},
    {"path": "/*", "methods": ["DELETE"], "roles": ["admin"]},
    {"path": "/*", "name": "others"},
)


class Quiet(WSGIRequestHandler):
    """Writes no log."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 (its signature)
        """Drop the message."""


def with_werkzeug(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
    """Answer with the name of the handler that a Werkzeug application runs."""
    return Response(f"ran {Request(environ).method}")(environ, start)


def run_by_django(request: HttpRequest) -> HttpResponse:
    """Answer with the name of the handler that a Django view of `request` runs."""
    return HttpResponse(f"ran {request.method}")


urlpatterns = [re_path("", run_by_django)]


@functools.cache
def with_django() -> WSGIHandler:
    """The WSGI application of a Django project whose only view is `run_by_django`."""
    django.conf.settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[])
    django.setup(set_prefix=False)
    return WSGIHandler()


def overriding(
    application: WSGIApplication, environ: WSGIEnvironment, start: StartResponse
) -> Iterable[bytes]:
    """Run the application on the method that a header asks for."""
    for name in ("HTTP_X_HTTP_METHOD_OVERRIDE", "HTTP_X_HTTP_METHOD"):
        asked = environ.get(name, "").upper()
        if asked in {"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"}:
            environ["REQUEST_METHOD"] = asked
    return application(environ, start)


@pytest.fixture(params=["werkzeug", "django"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a running WSGI server with an application of this framework."""
    framework = with_werkzeug if request.param == "werkzeug" else with_django()
    application = functools.partial(overriding, framework)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with contextlib.closing(server.socket):
        yield server.server_port
        server.shutdown()
        thread.join()


SMUGGLED: Final = (
    pytest.param(build("delete", "/x"), id="lower-case"),
    pytest.param(build("Delete", "/x"), id="mixed-case"),
    pytest.param(build("POST", "/x", f"{OVERRIDE}: DELETE"), id="override"),
    pytest.param(build("GET", "/x", "x-http-method: delete"), id="another-override"),
    pytest.param(build("POST", "/x", "X_HTTP_Method_Override: DELETE"), id="underscores"),
)


@pytest.mark.parametrize("request_", SMUGGLED[:4])
async def test_the_application_runs_its_delete_handler(port: int, request_: bytes) -> None:
    """Without the sidecar, each of these requests runs the handler of DELETE."""
    answer = await asyncio.wait_for(fetch(port, request_), 5)
    assert answer.body == b"ran DELETE"


@pytest.mark.parametrize("request_", SMUGGLED)
async def test_not_past_the_sidecar(port: int, request_: bytes) -> None:
    """A user without the role never reaches the handler of DELETE, in whatever spelling."""
    async with stack(f"http://127.0.0.1:{port}", routes=ROUTES) as running:
        token = f"\r\nAuthorization: Bearer {(await running.login()).access}\r\n\r\n".encode()
        answer = await running.ask(request_[:-4] + token)
        assert (answer.status, answer.body) in {(200, b"ran POST"), (200, b"ran GET")} or (
            answer.status == 501
        )
        denied = await running.ask(build("DELETE", "/x")[:-4] + token)
        assert denied.status == 403


async def test_an_accepted_override(port: int) -> None:
    """Where the route accepts it, an administrator's POST runs as DELETE, and no other user's."""
    async with stack(f"http://127.0.0.1:{port}", routes=ROUTES) as running:
        lines = f"{OVERRIDE}: DELETE"
        for user, status in (("alice", 403), ("admin", 200)):
            token = (await running.login(user)).access
            answer = await running.ask(build("POST", "/accepting/x", lines, token=token))
            assert answer.status == status
            assert (answer.body == b"ran DELETE") is (user == "admin")
