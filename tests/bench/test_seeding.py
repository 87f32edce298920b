"""Sessions inserted into Redis in bulk equal those that the sidecar writes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from bench import seeding
from bench.children import Children, StartError
from bench.lab import Lab
from sidecar.secret import Secret
from sidecar.sessions.redis.connect import RedisConfig, connect
from sidecar.sessions.redis.store import RedisStore
from sidecar.telemetry.metrics import Metrics
from tests.peers.redis_server import RedisServer

if TYPE_CHECKING:
    from pathlib import Path


TIMES = (b"seen", b"current:0")  # contain the time of writing


def test_command_is_in_redis_wire_form() -> None:
    """Commands are serialized in RESP, with lengths in bytes."""
    assert seeding.command(b"SET", b"k", "é".encode()) == (
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\xc3\xa9\r\n"
    )


def test_tokens_stand_one_a_line(tmp_path: Path) -> None:
    """The token file has one token per line, as wrk's script expects."""
    file = seeding.write_tokens(tmp_path / "tokens", ["a.b.c", "d.e.f"])
    assert file.read_text() == "a.b.c\nd.e.f\n"


async def test_inserted_logins_are_those_the_store_writes(tmp_path: Path) -> None:
    """The sidecar's store finds, lists and completely revokes the inserted logins."""
    lab = Lab(Children(tmp_path))
    pairs, mac = seeding.mint(lab, 3), seeding.mac_of(lab)
    session = pairs[0].grant.session
    with RedisServer() as server:
        written = [one for pair in pairs for one in seeding.commands(pair.grant, mac)]
        assert seeding.insert(server.port, written) == len(written)
        url = Secret(f"redis://127.0.0.1:{server.port}/0")
        store = RedisStore(connect(RedisConfig(url=url, timeout=1.0)), Metrics(), mac, timeout=1.0)
        try:
            assert await store.get(session.id) == session
            (info,) = await store.sessions_of(session.sub)
            assert (info.sid, info.user_agent) == (session.sid, "bench")
            for pair in pairs:
                assert await store.revoke_token(pair.grant.session.id)
            assert server.admin.dbsize() == 0
        finally:
            await store.close()


async def test_inserted_keys_are_those_of_a_write(tmp_path: Path) -> None:
    """Inserted keys have the same types and values as those the store writes, and a TTL."""
    lab = Lab(Children(tmp_path))
    (pair,), mac = seeding.mint(lab, 1), seeding.mac_of(lab)
    with RedisServer() as server:
        seeding.insert(server.port, seeding.commands(pair.grant, mac))
        inserted = contents(server)
        server.admin.flushall()
        url = Secret(f"redis://127.0.0.1:{server.port}/0")
        store = RedisStore(connect(RedisConfig(url=url, timeout=1.0)), Metrics(), mac, timeout=1.0)
        try:
            assert await store.write(pair.grant)
        finally:
            await store.close()
        assert contents(server) == inserted


def contents(server: RedisServer) -> dict[bytes, object]:
    """All keys with their values, except for times that differ between two writes."""
    found: dict[bytes, object] = {}
    for key in map(bytes, server.admin.scan_iter()):
        assert server.admin.pttl(key) > 0
        kind = server.admin.type(key)
        if kind == b"string":
            found[key] = server.admin.get(key)
        elif kind == b"hash":
            fields = server.admin.hgetall(key)
            found[key] = {name: value for name, value in fields.items() if name not in TIMES}
        else:
            found[key] = server.admin.zrange(key, 0, -1)
    return found


def test_refused_command_is_an_error() -> None:
    """A command that Redis refuses raises StartError."""
    with RedisServer() as server, pytest.raises(StartError, match="did not take"):
        seeding.insert(server.port, [seeding.command(b"SET", b"only-a-key")])


def test_invented_logins_differ() -> None:
    """Invented logins have different ids and are valid for more than an hour."""
    grants = list(seeding.invented(20))
    assert len({grant.session.id for grant in grants}) == 20
    assert len({grant.session.sid for grant in grants}) == 20
    assert all(grant.session.exp > time.time() + 3600 for grant in grants)
