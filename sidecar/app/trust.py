"""Whose tokens are accepted: the gate, and the users and keys in use.

Owns the current `LiveConfig` and the fetching of other issuers' keys, and ends the logins of users
who are gone. A reload replaces everything between two turns of the event loop, so no decision sees
a mixture of old and new.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from sidecar.app import build
from sidecar.auth.gate import Gate
from sidecar.auth.session import SessionKey
from sidecar.issuers.key_waiters import KeyWaiters
from sidecar.proxy.fair_share import FairShare
from sidecar.telemetry.audit import Event, Subject, audit

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from sidecar.api.services import LiveConfig
    from sidecar.app.build import Components
    from sidecar.auth.keys import Key, KeyRing
    from sidecar.issuers.jwks_fetch import JwksEndpoint, JwksFetcher
    from sidecar.sessions.store import SessionStore
    from sidecar.settings import Settings
    from sidecar.tasks import Tasks

# Requests that wait for keys at once. Those of the control plane leave half of its 64 connections
# to logins and logouts.
_WAITING: Final = 256
_WAITING_CONTROL: Final = 32

logger = logging.getLogger("sidecar.users")


class ForeignKeys:
    """The keys of other issuers, from files and from URLs, and the fetcher of the latter.

    `on_keys` is called with this object whenever `ring` has been replaced by fetched keys.
    """

    def __init__(
        self, settings: Settings, ring: KeyRing, on_keys: Callable[[ForeignKeys], None]
    ) -> None:
        self.ring = ring
        self.fetcher: JwksFetcher | None = None  # set by `start` if there is anything to fetch
        self._settings = settings
        self._on_keys = on_keys

    def __repr__(self) -> str:
        return f"<ForeignKeys {self.ring!r} from {self.fetcher!r}>"

    async def start(self, tasks: Tasks) -> None:
        """Fetch all keys once, then keep them current in the background."""
        self.fetcher = build.make_jwks_fetcher(self._settings, self._install)
        if self.fetcher is not None:
            await self.fetcher.start(tasks)

    def stop(self) -> None:
        """Fetch no more keys."""
        if self.fetcher is not None:
            self.fetcher.stop()

    def request(self, issuer: str) -> asyncio.Event | None:
        """Request a fetch of an issuer's keys, as `JwksFetcher.request` does."""
        return None if self.fetcher is None else self.fetcher.request(issuer)

    def inherit(self, previous: ForeignKeys) -> None:
        """Where the first fetch failed, keep the keys in use, if they are from the same endpoint.

        The copy that an earlier run kept may be older: it could not be written if the disk is full.
        """
        for endpoint in self._missing():
            if previous.fetcher is not None and endpoint in previous.fetcher.endpoints:
                keys = [key for key in previous.ring.keys if key.issuer == endpoint.issuer]
                if keys:
                    self.ring = self.ring.replaced(endpoint.issuer, keys)

    def _install(self, issuer: str, keys: Sequence[Key]) -> None:
        """Replace all keys of this issuer."""
        self.ring = self.ring.replaced(issuer, keys)
        self._on_keys(self)

    def _missing(self) -> Sequence[JwksEndpoint]:
        return () if self.fetcher is None else self.fetcher.missing


class Trust:
    """The gate and the `LiveConfig`, both made from one set of settings.

    `current` is replaced as a whole and never changed in place. `on_change` is called after the
    verification keys have been replaced. `keys` fetches keys that tokens name and that are unknown,
    and `control_keys` does so for the control plane.
    """

    def __init__(self, settings: Settings, components: Components) -> None:
        self.settings = settings
        self.components = components
        self.on_change: Callable[[], None] = _nothing
        self._foreign = ForeignKeys(settings, components.foreign, self._on_keys)
        self.keys = KeyWaiters(self._request_keys, FairShare(_WAITING))
        self.control_keys = KeyWaiters(self._request_keys, FairShare(_WAITING_CONTROL))
        self.current: LiveConfig = build.make_live_config(settings, components, self._foreign.ring)
        self.gate = Gate(
            self.current.verifier,
            components.identity,
            self.current.logins,
            cookie_name=settings.session_cookie,
            session_key=SessionKey(settings.session_key),
            cache_size=settings.session_cache_size,
        )
        self.gate.cors = self.current.cors

    def __repr__(self) -> str:
        return f"<Trust {self.components.routes!r} {self._foreign!r}>"

    async def start(self, tasks: Tasks) -> None:
        """Fetch the keys of other issuers once, then keep them current in the background."""
        await self._foreign.start(tasks)

    def _request_keys(self, issuer: str) -> asyncio.Event | None:
        return self._foreign.request(issuer)

    async def prepare(
        self, settings: Settings, components: Components, tasks: Tasks
    ) -> ForeignKeys:
        """Fetch the keys of other issuers under new settings; nothing in use changes yet."""
        foreign = ForeignKeys(settings, components.foreign, self._on_keys)
        await foreign.start(tasks)
        foreign.inherit(self._foreign)
        return foreign

    def replace(self, settings: Settings, components: Components, foreign: ForeignKeys) -> None:
        """Use new settings, what was made from them, and the keys from `prepare`.

        Raises what `make_live_config` raises; then nothing has changed.
        """
        current = build.make_live_config(settings, components, foreign.ring)
        self._foreign.stop()
        self.settings, self.components, self._foreign = settings, components, foreign
        self._use(current)

    def _on_keys(self, foreign: ForeignKeys) -> None:
        """Use fetched keys, unless a reload has replaced this `ForeignKeys` or is preparing it."""
        if foreign is self._foreign:
            self._use(build.make_live_config(self.settings, self.components, foreign.ring))

    def _use(self, current: LiveConfig) -> None:
        self.current = current
        self.gate.replace(current.verifier, current.logins)
        self.gate.cors = current.cors
        self.on_change()


async def end_logins(store: SessionStore, names: Sequence[str]) -> None:
    """End every login of these users everywhere, and log how many there were.

    The gate here already refuses those who were removed or disabled. In an outage the store keeps
    the work for later, as it does for a logout.
    """
    for name in names:
        try:
            ended = await store.revoke_user(name)
        except Exception:  # the other users' logins must end nevertheless
            logger.exception("the logins of a user could not be ended", extra={"user": name})
        else:
            message = "logins of a removed or changed user ended"
            audit(message, Event.LOGOUT_ALL, Subject(name), more={"ended": ended})


def _nothing() -> None:
    pass
