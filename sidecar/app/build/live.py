"""What a reload replaces, one value for each plane, made from settings and their components."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sidecar.api.guesses import GuessLimits
from sidecar.api.redirects import parse_origin
from sidecar.api.refresh_policy import GraceClient, RefreshPolicy
from sidecar.api.requests import BODY_LIMIT, BODY_TIMEOUT
from sidecar.api.services import LiveConfig
from sidecar.api.session_limit import SessionLimit
from sidecar.app.build.components import make_head_limits
from sidecar.app.build.pages import error_pages, login_url, make_sign_in_page
from sidecar.app.build.trust import make_verifier
from sidecar.app.process import connections_within_files
from sidecar.auth.cors import NO_CORS, CorsPolicy
from sidecar.auth.value_mac import hkdf_sha256
from sidecar.proxy.context import DataPlaneConfig, Limits

if TYPE_CHECKING:
    from sidecar.app.build.components import Components
    from sidecar.auth.keys import KeyRing
    from sidecar.settings import Settings

_KEY_BYTES: Final = 32  # of the key for digests of user names
# Browsers keep no copy for the back button or for a later start; nor do shared caches (RFC 9111).
_NO_STORE: Final = b"Cache-Control: private, no-store\r\n"


def make_live_config(settings: Settings, components: Components, foreign: KeyRing) -> LiveConfig:
    """The configuration of the control plane; `foreign` has the known keys of other issuers."""
    own_keys = components.keys.access
    return LiveConfig(
        users=components.users,
        issuer=components.issuer,
        verifier=make_verifier(settings, components.keys, foreign),
        published_keys=tuple(key for key in own_keys if not key.is_symmetric),
        redirect_origins=frozenset(filter(None, map(parse_origin, settings.redirect_origins))),
        sign_in=make_sign_in_page(settings),
        trusted_proxies=settings.trusted_proxies,
        guesses=make_guess_limits(settings),
        cors=make_cors(settings),
        refreshing=RefreshPolicy(
            grace=settings.refresh_grace,
            client=GraceClient(settings.refresh_grace_client),
            repeats=settings.refresh_grace_repeats,
            min_interval=settings.refresh_min_interval,
            access_grace=settings.access_grace,
        ),
        session_limit=SessionLimit(
            most=settings.max_sessions, refuse=settings.max_sessions_reached == "refuse"
        ),
    )


def make_cors(settings: Settings) -> CorsPolicy:
    """The origins whose pages may use the sidecar; none without a `[cors]` table."""
    cors = settings.cors
    if cors is None:
        return NO_CORS
    return CorsPolicy(
        cors.origins, credentials=cors.credentials, headers=cors.headers, max_age=cors.max_age
    )


def make_guess_limits(settings: Settings) -> GuessLimits:
    """The limits of failed logins. Their key is the same in all pods with these secrets."""
    info = f"auth-sidecar login guesses\0{settings.jwt_issuer}\0{settings.jwt_audience}".encode()
    return GuessLimits(
        user_address=settings.login_max_failures,
        address=settings.login_max_failures_address,
        user=settings.login_max_failures_user,
        window=settings.login_window,
        key=hkdf_sha256(settings.refresh_secret.reveal().encode(), b"", info, _KEY_BYTES),
    )


def make_data_plane_config(settings: Settings, components: Components) -> DataPlaneConfig:
    """The configuration of the data plane."""
    limits = make_limits(settings)
    most = connections_within_files(limits.connections, settings.upstream_max_connections)
    return DataPlaneConfig(
        routes=components.routes,
        limits=replace(limits, connections=most),
        trusted_proxies=settings.trusted_proxies,
        tls=components.tls,
        login_url=login_url(settings),
        cache_control=_NO_STORE if settings.session_no_store else b"",
        pages=error_pages(settings),
        cors=make_cors(settings),
    )


def make_limits(settings: Settings) -> Limits:
    """The limits of client connections."""
    return Limits(
        head=make_head_limits(settings),
        header_timeout=settings.header_timeout,
        idle_timeout=settings.idle_timeout,
        upstream_timeout=settings.upstream_timeout,
        queue_timeout=settings.upstream_queue_timeout,
        connections=settings.max_connections,
        per_address=settings.max_connections_per_address,
        requests=settings.max_requests or sys.maxsize,
        body_buffer=settings.body_buffer_size,
        body_rate=settings.min_body_rate,
        form_size=BODY_LIMIT,
        form_timeout=BODY_TIMEOUT,
        send_rate=settings.min_send_rate,
    )
