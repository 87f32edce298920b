"""Request bodies that arrive slowly, stop halfway or are compressed: each gets a prompt answer."""

from __future__ import annotations

import asyncio
import gzip
import logging
from typing import TYPE_CHECKING

import pytest

from sidecar.api import requests
from tests.api.control_plane import problem

if TYPE_CHECKING:
    from tests.api.control_plane import Api

HEAD = b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


async def _open(api: Api) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", api.client.port)


async def test_a_body_that_does_not_come(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stops sending its body gets 408 after the timeout."""
    monkeypatch.setattr(requests, "BODY_TIMEOUT", 0.05)
    reader, writer = await _open(api)
    writer.write(HEAD + b'Content-Length: 50\r\n\r\n{"username":')
    assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_leaves(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """A client that disconnects in the middle of its body causes no warning in the log."""
    with caplog.at_level(logging.DEBUG):
        _, writer = await _open(api)
        writer.write(HEAD + b'Content-Length: 50\r\n\r\n{"username":')
        await api.login()  # by now the server waits for the body
        writer.close()
        await writer.wait_closed()
        await api.login()  # by now the server has seen the disconnect
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(gzip.compress(b'{"username":"' + b"x" * 5_000_000 + b'"}'), id="bomb"),
        pytest.param(gzip.compress(b'{"username":"alice","password":"pw-alice"}'), id="good"),
        pytest.param(b"rubbish" * 10, id="rubbish"),
    ],
)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip"])
async def test_packed_bodies(
    api: Api, caplog: pytest.LogCaptureFixture, body: bytes, encoding: str
) -> None:
    """A compressed body is refused with 415 before decompression, and nothing is logged."""
    answer = await api.client.post(
        "/auth/login",
        data=body,
        headers={"Content-Type": "application/json", "Content-Encoding": encoding},
    )
    assert answer.status == 415
    assert "without content encoding" in (await problem(answer))["detail"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
