"""Who is let in: keys, users and routes, made from settings and replaced by others as a whole.

Owns the gate and what tells it whose tokens are believed. A replacement happens between two turns
of the event loop, so that every decision is by the old or by the new, and none by a mixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.api.services import LiveConfig
from sidecar.app import build
from sidecar.auth.gate import Gate
from sidecar.auth.session import SessionKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.app.build import Components
    from sidecar.auth.keys import Key, KeyRing
    from sidecar.issuers.jwks_fetch import JwksEndpoint, JwksFetcher
    from sidecar.settings import Settings
    from sidecar.tasks import Tasks


class ForeignKeys:
    """The keys of other issuers: those in files, and those fetched, with whoever fetches them."""

    def __init__(self, settings: Settings, ring: KeyRing, policy: Policy) -> None:
        self.ring = ring
        self._settings = settings
        self._policy = policy
        self.source: JwksFetcher | None = None  # once it has started, if there is anything to fetch

    def __repr__(self) -> str:
        return f"<ForeignKeys {self.ring!r} from {self.source!r}>"

    async def start(self, tasks: Tasks) -> None:
        """Fetch once, and from then on."""
        self.source = build.make_jwks_fetcher(self._settings, self._install)
        if self.source is not None:
            await self.source.start(tasks)

    def _install(self, issuer: str, keys: Sequence[Key]) -> None:
        """Believe this issuer's tokens by these keys, and by no others of it, from now on."""
        self.ring = self.ring.replaced(issuer, keys)
        self._policy.on_keys(self)

    def keep(self, before: ForeignKeys) -> None:
        """What could not be fetched now, and came from the same place before, is as it was then."""
        for place in self._missing():
            if before.source is not None and place in before.source.places:
                keys = [key for key in before.ring.keys if key.issuer == place.issuer]
                self.ring = self.ring.replaced(place.issuer, keys)

    def _missing(self) -> Sequence[JwksEndpoint]:
        return () if self.source is None else self.source.missing


class Policy:
    """The gate and the control plane's users and keys, of one set of settings at a time."""

    def __init__(self, settings: Settings, parts: Components) -> None:
        self.settings = settings
        self.parts = parts
        self.on_change: Callable[[], None] = _nothing  # told of other keys, once they are in use
        self._foreign = ForeignKeys(settings, parts.foreign, self)
        verifier = build.make_verifier(settings, parts.keys, parts.foreign)
        self.gate = Gate(
            verifier,
            parts.identity,
            cookie_name=settings.session_cookie,
            session_key=SessionKey(settings.session_key),
            cache_size=settings.session_cache_size,
        )
        self.current = LiveConfig(parts.users, parts.issuer, verifier)
        self._show()

    def __repr__(self) -> str:
        return f"<Policy {self.parts.routes!r} {self._foreign!r}>"

    async def start(self, tasks: Tasks) -> None:
        """Fetch the keys of other issuers, once and from then on."""
        await self._foreign.start(tasks)

    def ask(self) -> None:
        """A token named a key that is not known: it may be a new one."""
        if self._foreign.source is not None:
            self._foreign.source.ask()

    async def prepare(self, settings: Settings, parts: Components, tasks: Tasks) -> ForeignKeys:
        """The keys of other issuers by these settings; nothing changes yet."""
        foreign = ForeignKeys(settings, parts.foreign, self)
        await foreign.start(tasks)
        foreign.keep(self._foreign)
        return foreign

    def replace(self, settings: Settings, parts: Components, foreign: ForeignKeys) -> None:
        """From here on by these."""
        if self._foreign.source is not None:
            self._foreign.source.stop()
        self.settings, self.parts, self._foreign = settings, parts, foreign
        self.current.users, self.current.issuer = parts.users, parts.issuer
        self.on_keys(foreign)
        self._show()

    def on_keys(self, foreign: ForeignKeys) -> None:
        """Verify with other keys, if they are those in use."""
        if foreign is self._foreign:
            verifier = build.make_verifier(self.settings, self.parts.keys, foreign.ring)
            self.gate.replace_verifier(verifier)
            self.current.verifier = verifier
            self.on_change()

    def _show(self) -> None:
        keys = self.parts.keys.access
        self.current.published_keys = tuple(key for key in keys if not key.is_symmetric)
        self.current.redirect_origins = build.make_redirect_origins(self.settings)


def _nothing() -> None:
    pass
