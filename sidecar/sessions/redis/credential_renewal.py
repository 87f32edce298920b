"""Keeps Redis' credential up to date: fetches it from its source, and has connections use it.

Counts and logs what fails. Connections follow it through `reauthentication`. Knows no settings.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakKeyDictionary

from sidecar.sessions.redis.credentials import CredentialError, parse_credential
from sidecar.sessions.redis.reauthentication import ClientCredentials

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from sidecar.sessions.redis.credentials import Credential
    from sidecar.tasks import Tasks

NOT_RENEWED: Final = "Redis' credential cannot be renewed"
RENEWABLE: Final = "Redis' credential can be renewed again"
REFUSED: Final = "Redis refuses the new credential, open connections keep the previous one"
RENEWED: Final = "Redis accepts the new credential"

_TICK: Final = 1.0  # seconds
_RENEW_AT: Final = 0.75  # share of its lifetime after which a credential is renewed
_SHORTEST: Final = 1.0  # seconds until the next attempt; doubles after each failure
_LONGEST: Final = 60.0
_RETRY_AFTER: Final = 10.0  # seconds until a refused credential is fetched and tried again

logger = logging.getLogger("sidecar.sessions")


class Source(Protocol):
    """Where the credential comes from. `name` is for logs.

    `interval` is the time between two fetches in seconds, if the text does not say how long it is
    valid. If `fetched_on_connect`, it costs so little that every new connection fetches, and that
    `interval` is kept in any case.
    """

    @property
    def name(self) -> str:
        """The setting that says where the credential comes from."""

    @property
    def interval(self) -> float:
        """Seconds between two fetches."""

    @property
    def fetched_on_connect(self) -> bool:
        """Whether every new connection fetches."""

    async def fetch(self) -> str:
        """The text with the credential. Raises CredentialError."""


class CredentialMetrics(Protocol):
    """Counts what became of credentials: `renewed`, `failed` at the source, `refused` by Redis."""

    redis_credentials: dict[str, int]


class RedisCredentials:
    """The newest credential, for all clients of this process. `username` is its default user.

    `problem` says why the latest fetch failed; it is empty after a success. `monotonic` and `sleep`
    are in seconds.
    """

    def __init__(
        self,
        source: Source,
        username: str,
        metrics: CredentialMetrics,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source = source
        self.username = username
        self._metrics = metrics
        self._monotonic = monotonic
        self._sleep = sleep
        self._clients: WeakKeyDictionary[Redis, ClientCredentials] = WeakKeyDictionary()
        self.current: Credential | None = None
        self.attempt = 0  # see `reauthentication.Credentials`
        self.problem = ""
        self._attempts = 0
        self._accepted: Credential | None = None  # by Redis, the last one
        self._refused: Credential | None = None  # by Redis, the last one
        self._due = 0.0  # when to fetch the next one
        self._retry_at = 0.0  # when to try a refused one again
        self._delay = _SHORTEST

    def __repr__(self) -> str:
        return f"<RedisCredentials from {self._source.name}: {self._state}>"

    def describe(self) -> dict[str, Any]:
        """The state, for `/status`. Without secrets."""
        return {
            "source": self._source.name,
            "state": self._state,
            "problem": self.problem,
            "stale_connections": sum(each.stale for each in self._clients.values()),
        }

    def provider(self) -> ClientCredentials:
        """A provider for one client, which must then be given to `follow`."""
        return ClientCredentials(self)

    def follow(self, client: Redis, provider: ClientCredentials) -> None:
        """Keep the connections of a new client authenticated."""
        provider.follow(client)
        self._clients[client] = provider

    async def start(self, tasks: Tasks) -> None:
        """Fetch the first credential, and keep it up to date from now on.

        A failure is not an error: as long as there is no credential, Redis cannot be used.
        """
        await self.renew()
        tasks.spawn(self._run(), "redis credential")

    async def on_connect(self) -> None:
        """A new connection needs the newest credential."""
        if self._source.fetched_on_connect:
            await self.renew()

    async def renew(self) -> None:
        """Fetch the credential. On a failure, the previous one stays in use."""
        now = self._monotonic()
        try:
            credential, lifetime = parse_credential(await self._source.fetch(), self.username)
        except CredentialError as error:
            self._failed(str(error))
            self._use(self.current, now)
            return
        if self.problem:
            logger.info(RENEWABLE, extra={"source": self._source.name})
        self.problem = ""
        self._delay = _SHORTEST
        wait = self._source.interval
        if lifetime is not None and not self._source.fetched_on_connect:
            wait = max(_SHORTEST, lifetime * _RENEW_AT)
        self._due = now + wait
        self._use(credential, now)

    def accepted(self, credential: Credential) -> None:
        """Redis has accepted this credential."""
        if credential != self.current:
            return
        if not self.attempt:  # refused before
            self._try_again()
        before, self._accepted = self._accepted, credential
        if self._refused is not None or before not in (None, credential):
            self._metrics.redis_credentials["renewed"] += 1
            logger.info(RENEWED, extra={"source": self._source.name})
        self._refused = None

    def refused(self, credential: Credential) -> None:
        """Redis has refused this credential. It is fetched and tried again later."""
        if credential == self.previous:
            self._accepted = None  # it has ended; only the newest is left
            return
        if credential != self.current or not self.attempt:
            return
        self.attempt = 0
        self._retry_at = self._monotonic() + _RETRY_AFTER
        self._metrics.redis_credentials["refused"] += 1
        # If Redis has never accepted one, this is an outage, which is logged as such.
        if self._accepted is not None and credential != self._refused:
            logger.warning(REFUSED, extra={"source": self._source.name})
        self._refused = credential

    @property
    def proven(self) -> bool:
        """Whether Redis has accepted the newest credential."""
        return self.current is not None and self.current == self._accepted

    @property
    def previous(self) -> Credential | None:
        """What new connections use while Redis refuses the newest credential; None for that."""
        return self._accepted if self._is_refused else None

    @property
    def _state(self) -> str:
        if self.current is None:
            return "missing"
        if self._is_refused:
            return "refused"
        return "accepted" if self.proven else "untried"

    @property
    def _is_refused(self) -> bool:
        return self.current is not None and not self.attempt

    async def tick(self) -> None:
        """Fetch the credential if it is time, and have idle connections use a new one."""
        now = self._monotonic()
        if now >= self._due or (self._is_refused and now >= self._retry_at):
            await self.renew()
        for client, provider in list(self._clients.items()):
            if provider.stale:
                await provider.reach_idle(client)

    async def _run(self) -> None:
        while True:
            await self._sleep(_TICK)
            try:
                await self.tick()
            except Exception:  # one failure must not end the renewals
                logger.exception("renewing Redis' credential failed")

    def _use(self, credential: Credential | None, now: float) -> None:
        """Have connections use this credential if it is new, or if it is time for a retry."""
        if credential != self.current or (self._is_refused and now >= self._retry_at):
            self.current = credential
            self._try_again()

    def _try_again(self) -> None:
        self._attempts += 1
        self.attempt = self._attempts

    def _failed(self, problem: str) -> None:
        self._due = self._monotonic() + self._delay
        self._delay = min(2 * self._delay, _LONGEST)
        self._metrics.redis_credentials["failed"] += 1
        if problem != self.problem:
            self.problem = problem
            logger.warning(NOT_RENEWED, extra={"source": self._source.name, "problem": problem})
