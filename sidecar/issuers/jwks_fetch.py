"""Fetches the keys that issuers publish by URL: at start, regularly, and when a key is unknown.

Owns when and how documents are fetched, and logs failures. `auth.jwks` reads a document; `install`
hands its keys to the verifier. The keys of an issuer stay in use until the next successful fetch,
however long that takes; keys that are missing then have been withdrawn.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import aiohttp

from sidecar.auth.jwks import jwks_keys
from sidecar.auth.keys import public_jwks
from sidecar.issuers.discovery import jwks_url_of, metadata_urls
from sidecar.issuers.documents import Access, fetch_document

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sidecar.auth.jwks import JwksKeys
    from sidecar.auth.keys import Key
    from sidecar.issuers.key_copies import KeyCopies
    from sidecar.tasks import Tasks

    Install = Callable[[str, Sequence[Key]], None]

# Times are in seconds.
REFRESH: Final = 300.0  # between fetches: the longest that a withdrawn key remains in use
FIRST_RETRY: Final = 1.0  # after a failure; doubles with each further failure
LAST_RETRY: Final = 60.0
# Any client can cause a fetch with a token that names an unknown key, so these are limited.
# Made-up key ids delay the fetch that a real rotation needs by the interval at most.
REFETCH_INTERVAL: Final = 10.0
REFETCH_BURST: Final = 5
HOLD: Final = 2.5  # that a request waits for a fetch, from the beginning of the fetch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JwksEndpoint:
    """Where an issuer publishes its keys; `algorithms` goes to `jwks_keys`.

    With an empty `url`, the issuer's metadata says where.
    """

    issuer: str
    url: str
    algorithms: tuple[str, ...] = ()
    access: Access = field(default_factory=Access)


class JwksFetcher:
    """Keeps the keys of all endpoints current. `install` receives all keys that an issuer has now.

    `timeout` limits one fetch, and `hold` how long requests wait for it (both in seconds). `copies`
    keeps what was fetched for a start while an issuer cannot be reached. `clock`, `sleep` and
    `draw`, which returns a number from 0 to 1, can be replaced in tests.
    """

    __slots__ = ("_published", "_tasks", "endpoints")

    def __init__(
        self,
        endpoints: Sequence[JwksEndpoint],
        install: Install,
        *,
        timeout: float = 5.0,
        hold: float = HOLD,
        copies: KeyCopies | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._tasks: list[asyncio.Task[None]] = []
        make = partial(
            _Published,
            install,
            timeout=timeout,
            hold=hold,
            copies=copies,
            clock=clock,
            sleep=sleep,
            draw=draw,
        )
        self._published = [make(each) for each in self.endpoints]

    def __repr__(self) -> str:
        return f"<JwksFetcher {self._published}>"

    async def start(self, tasks: Tasks) -> None:
        """Try each endpoint once, then continue in the background. A failed fetch is no error."""
        await asyncio.gather(*(each.fetch() for each in self._published))
        for each in self._published:
            self._tasks += (
                tasks.spawn(each.refresh(), name=f"keys of {each.issuer}"),
                tasks.spawn(each.serve_requests(), name=f"unknown keys of {each.issuer}"),
            )

    def stop(self) -> None:
        """End all fetching. Nobody waits for it any longer."""
        for task in self._tasks:
            task.cancel()
        for each in self._published:
            each.end_waiting()

    @property
    def missing(self) -> list[JwksEndpoint]:
        """The endpoints from which no fetch has succeeded yet."""
        pairs = zip(self.endpoints, self._published, strict=True)
        return [endpoint for endpoint, each in pairs if each.is_missing]

    def request(self, issuer: str) -> asyncio.Event | None:
        """Request a fetch, because a token of this issuer named an unknown key, which may be new.

        Returns what is set when that fetch has ended, or has taken too long to be waited for. None
        if there is nothing to wait for: too many fetches were requested, so that this one begins
        later, or the issuer does not publish its keys.
        """
        found = [each for each in self._published if each.issuer == issuer]
        return found[0].request() if found else None


class _Published:
    """The keys of one endpoint."""

    __slots__ = (
        *("_awaited", "_clock", "_copies", "_draw", "_endpoint", "_failures", "_fetching", "_hold"),
        *("_install", "_known", "_next_refetch", "_requested", "_sleep", "_timeout"),
    )

    def __init__(
        self,
        install: Install,
        endpoint: JwksEndpoint,
        *,
        copies: KeyCopies | None,
        timeout: float,
        hold: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        draw: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self._install = install
        self._copies = copies
        self._timeout = timeout
        self._hold = hold
        self._clock = clock
        self._sleep = sleep
        self._draw = draw
        self._fetching = asyncio.Lock()  # an older answer must not replace a newer one
        self._failures = 0  # since the last success
        self._known: frozenset[bytes] | None = None  # None until the first success
        self._next_refetch = -math.inf
        self._requested = asyncio.Event()
        self._awaited: asyncio.Event | None = None  # set when the fetch on request has ended

    def __repr__(self) -> str:
        known = "no" if self._known is None else len(self._known)
        return f"<{known} keys of {self.issuer!r}, {self._failures} failures>"

    @property
    def is_missing(self) -> bool:
        """Whether no fetch has succeeded yet."""
        return self._known is None

    @property
    def issuer(self) -> str:
        """The issuer of these keys."""
        return self._endpoint.issuer

    def request(self) -> asyncio.Event | None:
        """Request a fetch. Returns its end, or None if it cannot be waited for."""
        self._requested.set()
        if self._awaited is None and self._clock() >= self._next_refetch:
            self._await_next()
        return None if self._awaited is None or self._awaited.is_set() else self._awaited

    def end_waiting(self) -> None:
        """Let nobody wait any longer for the fetch that is under way."""
        if self._awaited is not None:
            self._awaited.set()
            self._awaited = None

    def _await_next(self) -> None:
        self._awaited = asyncio.Event()
        asyncio.get_running_loop().call_later(self._hold, self._awaited.set)

    async def refresh(self) -> None:
        """Fetch at intervals, without end."""
        while True:
            await self._sleep(self._pause())
            await self.fetch()

    async def serve_requests(self) -> None:
        """Fetch on request: `REFETCH_BURST` times at once, then once per `REFETCH_INTERVAL`.

        A fetch that brought other keys does not count, because the unknown key id was real. This
        holds once per interval: the servers of an issuer may disagree, and answer in turn.
        """
        next_restored = -math.inf
        while True:
            await self._requested.wait()
            now = self._clock()
            if now < self._next_refetch:
                await self._sleep(self._next_refetch - now)
                now = self._clock()
            earliest = now - REFETCH_INTERVAL * (REFETCH_BURST - 1)
            self._next_refetch = max(self._next_refetch, earliest) + REFETCH_INTERVAL
            known = self._known
            if self._awaited is None:
                self._await_next()
            await self.fetch()
            if self._known != known and now >= next_restored:
                self._next_refetch = -math.inf
                next_restored = now + REFETCH_INTERVAL
            self._requested.clear()  # this fetch also serves requests made in the meantime
            self.end_waiting()

    async def fetch(self) -> None:
        """Fetch once, and install keys that have changed. Logs only the first failure in a row."""
        endpoint = self._endpoint
        async with self._fetching:
            try:
                async with asyncio.timeout(self._timeout):
                    document = await self._document()
                found = jwks_keys(endpoint.issuer, document, endpoint.algorithms)
            except TimeoutError:
                self._fail(f"no whole answer within {self._timeout:g} s")
            except (aiohttp.ClientError, OSError) as fault:
                self._fail(str(fault) or type(fault).__name__)
            except ValueError as fault:
                self._fail(str(fault))
            else:
                self._take(found)
                self._keep(document)

    async def _document(self) -> bytes:
        """The key set as it is published now. Raises what `fetch_document` raises."""
        endpoint = self._endpoint
        url = endpoint.url
        if not url:
            openid, oauth = metadata_urls(endpoint.issuer)
            try:
                metadata = await fetch_document(openid, self._timeout, endpoint.access)
            except ValueError:  # not there
                metadata = await fetch_document(oauth, self._timeout, endpoint.access)
            url = jwks_url_of(endpoint.issuer, metadata)
        return await fetch_document(url, self._timeout, endpoint.access)

    def _keep(self, document: bytes) -> None:
        """Write a copy of a good key set. A fault is only logged: a later start needs the copy."""
        if self._copies is None:
            return
        try:
            self._copies.write(self.issuer, self._endpoint.url, document)
        except OSError as fault:
            logger.warning("the keys of %s cannot be kept: %s", self.issuer, fault.strerror)

    def _recall(self) -> bool:
        """Install the keys of an earlier run, if there is a readable copy of them."""
        if self._copies is None:
            return False
        try:
            document = self._copies.read(self.issuer, self._endpoint.url)
            if document is None:
                return False
            found = jwks_keys(self.issuer, document, self._endpoint.algorithms)
        except (OSError, ValueError) as fault:
            reason = getattr(fault, "strerror", None) or str(fault)
            logger.warning("the kept keys of %s cannot be read: %s", self.issuer, reason)
            return False
        logger.warning("keys of %s: those of an earlier run are in use", self.issuer)
        self._install(self.issuer, found.keys)
        return True

    def _pause(self) -> float:
        """Seconds until the next fetch, randomised because a deployment's pods start together."""
        if not self._failures:
            return REFRESH * (0.9 + 0.1 * self._draw())
        wait: float = min(FIRST_RETRY * 2 ** min(self._failures - 1, 16), LAST_RETRY)
        return wait * (0.5 + 0.5 * self._draw())

    def _fail(self, reason: str) -> None:
        self._failures += 1
        if self._failures == 1:
            known = self._known is not None or self._recall()
            kept = "known keys stay in use" if known else "its tokens are refused"
            logger.warning(
                "keys of %s cannot be fetched, %s until they can: %s",
                *(self.issuer, kept, reason),
                extra={"url": self._endpoint.url or "from the issuer's metadata"},
            )

    def _take(self, found: JwksKeys) -> None:
        if self._failures:
            logger.info("keys of %s can be fetched again", self.issuer)
        self._failures = 0
        known = frozenset(public_jwks([key]) for key in found.keys)
        if known == self._known:  # installing keys makes the gate forget all verified tokens
            return
        self._known = known
        logger.log(
            logging.INFO if found.keys else logging.WARNING,
            "keys of %s: %d in use",
            *(self.issuer, len(found.keys)),
            extra={"not_used": "; ".join(found.refused)},
        )
        self._install(self.issuer, found.keys)
