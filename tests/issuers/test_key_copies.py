"""Copies of fetched keys in `state_dir`: a start while the issuer cannot be reached."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from sidecar.issuers.jwks_fetch import FIRST_RETRY, JwksEndpoint
from sidecar.issuers.key_copies import KeyCopies
from tests.issuers.test_jwks_fetch import ISSUER, Reader
from tests.peers.key_server import KeyServer
from tests.peers.patience import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    """A key server that publishes one key."""
    async with KeyServer() as running:
        running.publish(one="ES256")
        yield running


async def run(server: KeyServer, copies: KeyCopies) -> Reader:
    """Start a fetcher with these copies, as a sidecar does."""
    reader = Reader(JwksEndpoint(ISSUER, server.url), copies=copies)
    await reader.source.start(reader.tasks)
    return reader


async def test_a_start_without_the_issuer(
    server: KeyServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The keys of the earlier run are in use at once, and newer ones as soon as they can be."""
    copies = KeyCopies(tmp_path / "keys")
    await (await run(server, copies)).tasks.close()
    assert (tmp_path / "keys").stat().st_mode & 0o77 == 0
    await server.stop()
    later = await run(server, copies)
    assert later.installed == [(ISSUER, ["one"])]
    assert later.source.missing
    assert f"keys of {ISSUER}: those of an earlier run are in use" in caplog.text
    assert "known keys stay in use until they can" in caplog.text
    await server.begin()
    server.publish(two="ES256")
    await until(lambda: len(later.pauses) > 0)
    await later.clock.turn(FIRST_RETRY)
    await until(lambda: later.kids == ["two"])
    await later.tasks.close()


async def test_the_copy_is_that_of_the_last_good_fetch(server: KeyServer, tmp_path: Path) -> None:
    """A withdrawn key is not in the copy either, and each issuer has a copy of its own."""
    copies = KeyCopies(tmp_path)
    await (await run(server, copies)).tasks.close()
    server.publish(two="ES256")
    await (await run(server, copies)).tasks.close()
    document = copies.read(ISSUER, server.url)
    assert document is not None
    assert b"two" in document
    assert b"one" not in document
    assert copies.read("https://another.example", server.url) is None
    assert len(list(tmp_path.iterdir())) == 1


async def test_a_copy_from_another_url(server: KeyServer, tmp_path: Path) -> None:
    """If the operator names another URL, the keys of the previous one are no longer trusted."""
    copies = KeyCopies(tmp_path)
    await (await run(server, copies)).tasks.close()
    await server.stop()
    later = Reader(JwksEndpoint(ISSUER, f"{server.origin}/moved"), copies=copies)
    await later.source.start(later.tasks)
    assert later.installed == []
    await later.tasks.close()


@pytest.mark.parametrize("damage", [b"", b"{", b'{"keys": 1}', b"\xff" * 100], ids=repr)
async def test_a_damaged_copy(
    damage: bytes, server: KeyServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged copy is reported and ignored: the issuer has no keys until they are fetched."""
    copies = KeyCopies(tmp_path)
    await (await run(server, copies)).tasks.close()
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    await server.stop()
    later = await run(server, copies)
    assert later.installed == []
    assert later.source.missing
    assert f"the kept keys of {ISSUER} cannot be read" in caplog.text
    await later.tasks.close()


async def test_a_folder_that_cannot_be_written(
    server: KeyServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The fetched keys are in use all the same, with a warning."""
    (tmp_path / "keys").write_text("a file in the place of the folder")
    caplog.set_level(logging.INFO)
    reader = await run(server, KeyCopies(tmp_path / "keys"))
    assert reader.kids == ["one"]
    assert f"the keys of {ISSUER} cannot be kept" in caplog.text
    await reader.tasks.close()
