"""The clients of the measured writes: users who log in, refresh and log out at a real sidecar.

So the commands of a write are those of the sidecar, whatever they are. Must not measure.
"""

from __future__ import annotations

import base64
from contextlib import closing
from itertools import cycle, islice
from typing import TYPE_CHECKING

import msgspec

from bench import polling, sidecar
from bench.scale.population import Known, token_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.lab import Lab

USERS = 1_000
NO_UPSTREAM = 9  # nothing is proxied
MOST_SESSIONS = 100  # the default of MAX_SESSIONS


class Claims(msgspec.Struct):
    """The claim of an access token that is used here."""

    sid: str


class Users:
    """The users of one sidecar, which writes to the lab's Redis."""

    def __init__(self, lab: Lab) -> None:
        names = [f"user{number}" for number in range(USERS)]
        hashes = dict.fromkeys(names, sidecar.cheap_hash())
        self._started = sidecar.start(
            lab,
            "sidecar",
            redis=True,
            upstream_port=NO_UPSTREAM,
            users=hashes,
            max_sessions=MOST_SESSIONS,
        )
        self._names = cycle(names)

    def __repr__(self) -> str:
        return f"<Users of the sidecar at {self._started.port}>"

    def log_in(self, number: int) -> list[sidecar.LoginAnswer]:
        """So many logins, each of the next user. Raises StartError."""
        return list(sidecar.log_in(self._started.port, islice(self._names, number)))

    def refresh(self, logins: Iterable[sidecar.LoginAnswer]) -> None:
        """Refresh each of these logins once. Raises PollError."""
        headers = {"Content-Type": "application/json"}
        with closing(sidecar.connect(self._started.port, tls=False)) as connection:
            for login in logins:
                body = sidecar.refresh_body(login.refresh_token)
                connection.request("POST", "/auth/refresh", body, headers)
                response = connection.getresponse()
                response.read()
                if response.status != polling.ALLOWED:
                    raise polling.PollError(f"a refresh got status {response.status}")

    def log_out(self, logins: Iterable[sidecar.LoginAnswer]) -> None:
        """Log each of these logins out. Raises PollError."""
        with closing(polling.Line(self._started.port)) as line:
            for login in logins:
                status = line.ask(polling.logout(login.access_token))
                if status != polling.LOGGED_OUT:
                    raise polling.PollError(f"a logout got status {status}")


def known_of(logins: Sequence[sidecar.LoginAnswer]) -> list[Known]:
    """What a pod knows of these logins' sessions."""
    return [Known(token_id(each.access_token), sid_in(each.access_token)) for each in logins]


def sid_in(token: str) -> str:
    """The session id in a token, whose signature is not verified."""
    payload = token.split(".")[1]
    return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=="), type=Claims).sid
