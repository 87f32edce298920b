"""Keys that issuers publish by URL: fetched at start, from time to time, and when one is missed.

Owns when and how the documents are fetched, and what is said when they cannot be. What is in one
`auth.jwks` knows; who verifies with the keys gets them through `install`. An issuer's keys stay
until a fetch succeeds, however long that takes; what is missing then has been withdrawn.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp

from sidecar import __version__
from sidecar.auth.jwks import jwks_keys
from sidecar.auth.keys import public_jwks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sidecar.auth.jwks import JwksKeys
    from sidecar.auth.keys import Key
    from sidecar.tasks import Tasks

    Install = Callable[[str, Sequence[Key]], None]

# Times are seconds.
REFRESH: Final = 300.0  # between fetches; thus long a withdrawn key goes on at most
FIRST_RETRY: Final = 1.0  # after a failure; twice as long after each further one
LAST_RETRY: Final = 60.0
ASKED_EVERY: Final = 30.0  # fetches for unknown keys: anybody can ask for them with any token
ASKED_AT_ONCE: Final = 2
LONGEST: Final = 512 * 1024  # octets of a document

_HEADERS: Final = {
    "Accept": "application/jwk-set+json, application/json",
    "Accept-Encoding": "identity",  # a packed document could be of any size once unpacked
    "User-Agent": f"auth-sidecar/{__version__}",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JwksEndpoint:
    """Where an issuer publishes its keys; `algorithms` as `jwks_keys` takes them."""

    issuer: str
    url: str
    algorithms: tuple[str, ...] = ()


class JwksFetcher:
    """Keeps the keys of every place fetched. `install` gets an issuer's keys, all it has now.

    `clock`, `sleep` and `draw` (of a number from 0 to 1) are for tests; `timeout` is for one fetch.
    """

    __slots__ = ("_published", "_tasks", "places")

    def __init__(
        self,
        places: Sequence[JwksEndpoint],
        install: Install,
        *,
        timeout: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.places = tuple(places)
        self._tasks: list[asyncio.Task[None]] = []
        self._published = [
            _Published(place, install, timeout=timeout, clock=clock, sleep=sleep, draw=draw)
            for place in places
        ]

    def __repr__(self) -> str:
        return f"<JwksFetcher {self._published}>"

    async def start(self, tasks: Tasks) -> None:
        """Try each place once, then go on in the background. That one is absent is no error."""
        await asyncio.gather(*(each.fetch() for each in self._published))
        for each in self._published:
            self._tasks += (
                tasks.spawn(each.keep(), name=f"keys of {each.issuer}"),
                tasks.spawn(each.answer(), name=f"unknown keys of {each.issuer}"),
            )

    def stop(self) -> None:
        """Fetch no more."""
        for task in self._tasks:
            task.cancel()

    @property
    def missing(self) -> list[JwksEndpoint]:
        """The places whose keys have never been fetched."""
        pairs = zip(self.places, self._published, strict=True)
        return [place for place, each in pairs if each.is_missing]

    def ask(self) -> None:
        """A token named a key that is not known: it may be a new one."""
        for each in self._published:
            each.asked.set()


class _Published:
    """The keys of one place."""

    __slots__ = (
        *("_clock", "_draw", "_failures", "_fetching", "_install", "_known", "_next_answer"),
        *("_place", "_sleep", "_timeout", "asked"),
    )

    def __init__(
        self,
        place: JwksEndpoint,
        install: Install,
        *,
        timeout: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        draw: Callable[[], float],
    ) -> None:
        self._place = place
        self._install = install
        self._timeout = timeout
        self._clock = clock
        self._sleep = sleep
        self._draw = draw
        self._fetching = asyncio.Lock()  # an older answer must not come after a newer one
        self._failures = 0  # since the last success
        self._known: frozenset[bytes] | None = None  # None until the first success
        self._next_answer = -math.inf
        self.asked = asyncio.Event()

    def __repr__(self) -> str:
        known = "no" if self._known is None else len(self._known)
        return f"<{known} keys of {self.issuer!r}, {self._failures} failures>"

    @property
    def is_missing(self) -> bool:
        """Whether no fetch has succeeded yet."""
        return self._known is None

    @property
    def issuer(self) -> str:
        """Whose keys these are."""
        return self._place.issuer

    async def keep(self) -> None:
        """Fetch again and again."""
        while True:
            await self._sleep(self._pause())
            await self.fetch()

    async def answer(self) -> None:
        """Fetch when asked to: at once `ASKED_AT_ONCE` times, then every `ASKED_EVERY` seconds."""
        while True:
            await self.asked.wait()
            now = self._clock()
            if now < self._next_answer:
                await self._sleep(self._next_answer - now)
                now = self._clock()
            saved = now - ASKED_EVERY * (ASKED_AT_ONCE - 1)
            self._next_answer = max(self._next_answer, saved) + ASKED_EVERY
            await self.fetch()
            self.asked.clear()  # whoever asked meanwhile has been answered

    async def fetch(self) -> None:
        """Fetch once, and install what has changed. A failure is logged when it is the first."""
        place = self._place
        async with self._fetching:
            try:
                document = await fetch_document(place.url, self._timeout)
                found = jwks_keys(place.issuer, document, place.algorithms)
            except TimeoutError:
                self._fail(f"no whole answer within {self._timeout:g} s")
            except (aiohttp.ClientError, OSError) as fault:
                self._fail(str(fault) or type(fault).__name__)
            except ValueError as fault:
                self._fail(str(fault))
            else:
                self._take(found)

    def _pause(self) -> float:
        """Until the next fetch; spread out, for all pods of a deployment start together."""
        if not self._failures:
            return REFRESH * (0.9 + 0.1 * self._draw())
        wait: float = min(FIRST_RETRY * 2 ** min(self._failures - 1, 16), LAST_RETRY)
        return wait * (0.5 + 0.5 * self._draw())

    def _fail(self, reason: str) -> None:
        self._failures += 1
        if self._failures == 1:
            kept = "its tokens are refused" if self._known is None else "those known stay in use"
            logger.warning(
                "keys of %s cannot be fetched, %s until they can: %s",
                *(self.issuer, kept, reason),
                extra={"url": self._place.url},
            )

    def _take(self, found: JwksKeys) -> None:
        if self._failures:
            logger.info("keys of %s can be fetched again", self.issuer)
        self._failures = 0
        known = frozenset(public_jwks([key]) for key in found.keys)
        if known == self._known:  # new keys make the gate forget what it has verified
            return
        self._known = known
        logger.log(
            logging.INFO if found.keys else logging.WARNING,
            "keys of %s: %d in use",
            *(self.issuer, len(found.keys)),
            extra={"not_used": "; ".join(found.refused)},
        )
        self._install(self.issuer, found.keys)


async def fetch_document(url: str, timeout: float) -> bytes:
    """The document at a URL, which has to be there itself, whole and of bearable length.

    Raises ValueError for another answer, TimeoutError after `timeout` seconds in all, and what
    aiohttp raises.
    """
    session = aiohttp.ClientSession(
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        timeout=aiohttp.ClientTimeout(total=timeout),
    )
    async with session, session.get(url, allow_redirects=False) as answer:
        if answer.status != 200:
            raise ValueError(
                f"expected status 200 (redirects are not followed); got {answer.status}"
            )
        document = bytearray()
        async for part in answer.content.iter_any():
            document += part
            if len(document) > LONGEST:
                raise ValueError(f"expected a document of at most {LONGEST} bytes")
        return bytes(document)
