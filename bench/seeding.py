"""Hundreds of thousands of sessions, written to Redis as the sidecar writes them.

Owns minting and mass insertion. With `login_writer`, `warm_start` and `scale`, the only module that
imports the `sidecar` package, so that tokens, values and keys are those of the measured program.
"""

from __future__ import annotations

import secrets
import socket
import time
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from bench.children import PATIENCE, StartError
from bench.tokens import AUDIENCE, ISSUER, TOKEN_SECONDS
from sidecar.api.grants import ClientInfo, TokenPair, issue_pair, new_login
from sidecar.auth.issue import Issuer
from sidecar.auth.session import (
    Grant,
    RefreshRecord,
    Session,
    SessionKey,
    encode_refresh,
    encode_session,
)
from sidecar.auth.symmetric import secret_key
from sidecar.auth.value_mac import Purpose, ValueMac
from sidecar.sessions.redis import login_hash
from sidecar.sessions.redis.key_names import DEFAULT_PREFIX, KeyNames
from sidecar.sessions.redis.keyspace import RECORD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from bench.lab import Lab

REFRESH_SECONDS = 7 * 86400
PER_CHUNK = 5_000
CLIENT = ClientInfo("bench", "127.0.0.1")
CLAIMS = {"roles": ["user"]}
METHOD = "bench"  # these logins need no user in the users file, as those with a password do


def mint(lab: Lab, number: int) -> list[TokenPair]:
    """The tokens of this many logins, each of a different user, and the records to write."""
    issuer = Issuer(
        secret_key(ISSUER, lab.secret.encode()),
        secret_key(ISSUER, lab.refresh_secret.encode()),
        issuer=ISSUER,
        audience=AUDIENCE,
        access_ttl=TOKEN_SECONDS,
        refresh_ttl=REFRESH_SECONDS,
    )
    now, key = time.time(), SessionKey.SHA256
    logins = (new_login(f"user-{n}", CLAIMS, now) for n in range(number))
    return [
        issue_pair(issuer, replace(each, method=METHOD), CLIENT, now, session_key=key)
        for each in logins
    ]


def invented(number: int) -> Iterator[Grant]:
    """This many logins without tokens, which only take up memory in Redis."""
    now = time.time()
    for n in range(number):
        sid, sub = secrets.token_urlsafe(16), f"other-{n}"
        session = Session(
            id=secrets.token_hex(32),
            sid=sid,
            sub=sub,
            claims=CLAIMS,
            created=now,
            exp=now + TOKEN_SECONDS,
        )
        refresh = RefreshRecord(
            sid=sid,
            sub=sub,
            created=now,
            exp=now + REFRESH_SECONDS,
            token_id=session.id,
            claims=CLAIMS,
        )
        yield Grant(
            session=session,
            refresh_id=secrets.token_hex(32),
            refresh=refresh,
            user_agent=CLIENT.user_agent,
            address=CLIENT.address,
        )


def write_tokens(path: Path, tokens: Iterable[str]) -> Path:
    """Write the tokens to a file with one per line, and return its path."""
    path.write_text("".join(f"{token}\n" for token in tokens))
    return path


def mac_of(lab: Lab) -> ValueMac:
    """The MAC that the measured sidecars expect of values in Redis."""
    return ValueMac([lab.refresh_secret.encode()], ISSUER, AUDIENCE)


def token_command(session: Session, mac: ValueMac) -> bytes:
    """The command that writes a session under its token id, the only key that a look-up reads."""
    life = b"%d" % int((session.exp - time.time()) * 1000)
    key = KeyNames(DEFAULT_PREFIX, mac.realm).token(session.id)
    value = mac.sign(Purpose.SESSION, key, encode_session(session))
    return command(b"SET", key, value, b"PX", life)


def commands(grant: Grant, mac: ValueMac) -> Iterator[bytes]:
    """All commands that write a login, in the sidecar's order."""
    session, refresh, refresh_id = grant.session, grant.refresh, grant.refresh_id
    if refresh is None or refresh_id is None:
        raise ValueError("expected a grant with a refresh token")
    now = time.time()
    life = b"%d" % int((refresh.exp - now) * 1000)
    names = KeyNames(DEFAULT_PREFIX, mac.realm)
    keys = names.refresh(refresh_id), names.login(session.sid), names.user(session.sub)
    record = mac.sign(Purpose.REFRESH, keys[0], encode_refresh(refresh, refresh_id))
    fields = login_hash.fields_of(grant, keys[1], now, refresh.exp, mac.sign)
    yield token_command(session, mac)
    yield command(b"HSET", keys[0], RECORD.encode(), record)
    yield command(
        b"HSET", keys[1], *(part for name in fields for part in (name.encode(), fields[name]))
    )
    yield command(b"ZADD", keys[2], repr(refresh.exp).encode(), session.sid.encode())
    for key in keys:
        yield command(b"PEXPIRE", key, life)


def command(*parts: bytes) -> bytes:
    """A command in the protocol of Redis (RESP)."""
    return b"*%d\r\n%b" % (len(parts), b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts))


def insert(port: int, wanted: Iterable[bytes]) -> int:
    """Run these commands in Redis, and return their number. Raises StartError for a failed one."""
    done, rest = 0, iter(wanted)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        answers = connection.makefile("rb")
        while chunk := list(islice(rest, PER_CHUNK)):
            connection.sendall(b"".join(chunk))
            for _ in chunk:
                answer = answers.readline()
                if not answer.startswith((b"+OK", b":")):
                    raise StartError(f"Redis did not take a session: {answer[:200]!r}")
            done += len(chunk)
    return done
