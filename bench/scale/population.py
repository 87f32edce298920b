"""The sessions that the pods read, and the commands by which a pod reads and tracks them.

Owns the keys and values, which the `sidecar` package makes, and the commands of a pod; `pod` says
when they are sent. `tests/bench/test_scale_pods.py` compares both with a sidecar.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from hiredis import PushNotification

from bench.seeding import CLAIMS, CLIENT, METHOD, REFRESH_SECONDS, command, commands
from bench.tokens import TOKEN_SECONDS
from sidecar.auth.session import Grant, RefreshRecord, Session, SessionKey
from sidecar.auth.session import token_id as id_of_token
from sidecar.sessions.redis import login_hash
from sidecar.sessions.redis.key_names import DEFAULT_PREFIX, KeyNames

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sidecar.auth.value_mac import ValueMac


class Known(NamedTuple):
    """What a pod knows of a session: the token id that it looks up, and the login's sid."""

    token: str
    sid: str


class Pushed(NamedTuple):
    """A message that Redis pushes: the token ids whose keys changed, or None for all of them."""

    tokens: list[str] | None


class PodCommands:
    """The commands of a pod, in the protocol of Redis. `realm` is that of its sidecar."""

    def __init__(self, realm: str) -> None:
        self._names: Final = KeyNames(DEFAULT_PREFIX, realm)
        self.probe: Final = self.look_up([""])
        # Speak RESP3, and report changes of what this connection reads.
        self.track: Final = command(b"HELLO", b"3") + command(b"CLIENT", b"TRACKING", b"ON")
        self.ping: Final = command(b"PING")

    def __repr__(self) -> str:
        return f"<PodCommands with {self._names!r}>"

    def look_up(self, tokens: Sequence[str]) -> bytes:
        """Read the sessions under these token ids."""
        return command(b"MGET", *map(self._names.token, tokens))

    def mark_seen(self, sids: Sequence[str], now: float) -> bytes:
        """Record that these logins were seen, one command each."""
        field, value = login_hash.SEEN.encode(), repr(now).encode()
        return b"".join(command(b"HSET", self._names.login(sid), field, value) for sid in sids)

    def delete(self, token: str) -> bytes:
        """End the session under this token id, as the last step of a logout does."""
        return command(b"DEL", self._names.token(token))

    def expire(self, token: str, seconds: float) -> bytes:
        """Let the session under this token id expire after so many seconds."""
        return command(b"PEXPIRE", self._names.token(token), b"%d" % int(seconds * 1e3))

    @property
    def push_size(self) -> int:
        """The bytes of a message that one session has changed."""
        kind = b">2" + command(b"invalidate").removeprefix(b"*1")
        return len(kind + command(self._names.token(known(0).token)))

    def pushed(self, message: object) -> Pushed | None:
        """The invalidation in what Redis has sent; None if it is an answer to a command."""
        if not isinstance(message, PushNotification):
            return None
        _, keys = message
        if keys is None:
            return Pushed(None)
        return Pushed([token for key in keys if (token := self._names.token_in(key))])


def token_id(token: str) -> str:
    """The id under which the session of this token is stored."""
    return id_of_token(token.encode(), SessionKey.SHA256)


def known(number: int) -> Known:
    """Session `number`; every process computes the same."""
    return Known(hashlib.sha256(b"scale-%d" % number).hexdigest(), f"{number:022d}")


def session(number: int, now: float) -> Session:
    """The session as it is stored."""
    token, sid = known(number)
    return Session(
        id=token,
        sid=sid,
        sub=f"user-{number}",
        claims=CLAIMS,
        created=now,
        exp=now + TOKEN_SECONDS,
        method=METHOD,
    )


def logins(first: int, end: int, mac: ValueMac) -> Iterator[bytes]:
    """The commands that write the logins from `first` to before `end`, all keys of each."""
    now = time.time()
    for number in range(first, end):
        found = session(number, now)
        record = RefreshRecord(
            sid=found.sid,
            sub=found.sub,
            created=now,
            exp=now + REFRESH_SECONDS,
            token_id=found.id,
            claims=CLAIMS,
            method=METHOD,
        )
        grant = Grant(
            session=found,
            refresh_id=hashlib.sha256(b"scale-refresh-%d" % number).hexdigest(),
            refresh=record,
            user_agent=CLIENT.user_agent,
            address=CLIENT.address,
        )
        yield from commands(grant, mac)
