"""The Python calls that a request costs when its token and session are known in this process."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import jwt
import pytest

import sidecar
from sidecar.auth.route_rule import Access, RouteRule
from sidecar.auth.session import Grant, Session, SessionKey, token_id
from tests.proxy.memory_plane import OK, SECRET, Plane

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

CALLS: Final = {"/app": 29, "/auth/verify": 20}  # at most
RULES: Final = (
    RouteRule(path="/auth/verify", target="verify", access=Access.PUBLIC, name="verify"),
    RouteRule(path="/*"),
)
PACKAGE: Final = str(Path(sidecar.__file__).parent)


async def log_in(plane: Plane) -> str:
    """Return a bearer token whose session is in the plane's store."""
    now = int(time.time())
    claims = {"iss": "t", "sub": "alice", "sid": "s1", "iat": now, "exp": now + 900}
    token = jwt.encode(claims, SECRET, algorithm="HS256", headers={"typ": "at+jwt"})
    session = Session(
        id=token_id(token.encode(), SessionKey.SHA256),
        sid="s1",
        sub="alice",
        claims={},
        created=float(now),
        exp=float(now + 900),
        method="password",
    )
    assert await plane.context.store.write(Grant(session=session))
    return token


def calls_of(work: Callable[[], None]) -> list[str]:
    """Return the sidecar's Python functions called by `work`, one entry per call."""
    calls: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            calls.append(frame.f_code.co_qualname)

    gc.disable()  # what it frees may run code of the sidecar, such as the end of a generator
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


@pytest.mark.parametrize("path", CALLS)
async def test_a_bearer_get_needs_no_task_and_few_calls(path: str) -> None:
    """A known bearer GET is answered inside `data_received`, without a task and in few calls."""
    plane = Plane(RULES)
    token = await log_in(plane)
    wire = plane.connect()
    request = f"GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    for _ in range(3):  # the token becomes known, the head is remembered, a connection is opened
        await plane.ask(wire, request)
    wire.take()
    before = asyncio.all_tasks()
    calls = calls_of(lambda: wire.feed(request))
    for upstream in plane.connector.wires:
        assert upstream.take()
        calls += calls_of(lambda: upstream.feed(OK))  # noqa: B023 (called at once)
    assert wire.take().startswith(b"HTTP/1.1 200 ")
    assert asyncio.all_tasks() == before
    assert len(calls) <= CALLS[path], calls
