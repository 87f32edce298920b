"""Reads every file that settings name, and makes what follows from settings and files alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from sidecar.api.cookies import CookieForm
from sidecar.api.users import Users, load_users
from sidecar.app.build.certificates import (
    check_redis_tls,
    make_listener_tls,
    make_upstream_tls,
    read_expiries,
)
from sidecar.app.build.config_errors import config_errors_at
from sidecar.app.build.redis_credentials import check_redis_credential
from sidecar.app.build.trust import Keys, make_issuer, read_foreign_keys
from sidecar.auth.credentials import Accepts
from sidecar.auth.evasions import find_evasions
from sidecar.auth.identity import IdentityHeaders
from sidecar.auth.keys import KeyRing
from sidecar.auth.route_rule import Access, Forwards, Outage, RouteRule
from sidecar.auth.routes import RouteTable
from sidecar.errors import ConfigError, Problem
from sidecar.proxy.connectors import Connector, TcpConnector, UnixConnector
from sidecar.proxy.upstream_pool import UpstreamPoolLimits
from sidecar.proxy.verify import VerifyEndpoint
from sidecar.wire.head import HeadLimits
from sidecar.wire.target import NormalisingTargetParser, TargetParser

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from sidecar.auth.issue import Issuer
    from sidecar.settings import Settings

T = TypeVar("T")

_VERIFY: Final = "verify"  # where other proxies ask, below the prefix


@dataclass(frozen=True, slots=True)
class Components:
    """What is made from settings and files alone, without metrics or an event loop.

    `foreign` has the keys of other issuers that are in files. `tls` is the listener's context, None
    for plain HTTP. `expiries` is what `read_expiries` returns.
    """

    keys: Keys
    issuer: Issuer
    foreign: KeyRing
    users: Users
    routes: RouteTable
    identity: IdentityHeaders
    upstream: Connector
    tls: ssl.SSLContext | None
    expiries: Mapping[str, float]


def make_components(settings: Settings) -> Components:
    """Read every file that settings name. Raises ConfigError with the problems of all of them."""
    problems: list[Problem] = []

    def attempt(make: Callable[[Settings], T]) -> T | None:
        try:
            return make(settings)
        except ConfigError as fault:
            problems.extend(fault.problems)
        return None

    signing = attempt(_make_signing)
    foreign = attempt(read_foreign_keys)
    users = attempt(_make_users)
    routes = attempt(make_routes)
    identity = attempt(_make_identity)
    connector = attempt(_make_connector)
    tls = attempt(make_listener_tls)
    attempt(check_redis_tls)
    attempt(check_redis_credential)
    expiries = {} if problems else attempt(read_expiries)
    if (
        (signing is None or foreign is None or users is None)
        or (routes is None or identity is None or connector is None)
        or (expiries is None or problems)
    ):
        raise ConfigError(problems)
    return Components(
        *signing,
        KeyRing(foreign),
        users=users,
        routes=routes,
        identity=identity,
        upstream=connector,
        tls=tls,
        expiries=expiries,
    )


def _make_signing(settings: Settings) -> tuple[Keys, Issuer]:
    keys = Keys(settings)
    return keys, make_issuer(settings, keys)


def _make_users(settings: Settings) -> Users:
    """The users of the users file; no users without a file."""
    if not settings.users_file:
        return Users(configured=False)
    return load_users(Path(settings.users_file))


def make_routes(settings: Settings) -> RouteTable:
    """The sidecar's own routes, then those of the file. Raises ConfigError if one can be evaded."""
    rules, outage = make_rules(settings), Outage(settings.session_outage)
    table = RouteTable((*_own_rules(settings), *rules), outage=outage)
    if problems := list(find_evasions(rules, table)):
        raise ConfigError(problems)
    return table


def _own_rules(settings: Settings) -> list[RouteRule]:
    """The rules of the paths that the sidecar answers itself. They come before every other one."""
    public, prefix = Access.PUBLIC, settings.auth_prefix
    return [
        RouteRule(path=f"{prefix}/{_VERIFY}/*", name="verify", access=public, target="verify"),
        RouteRule(path=f"{prefix}/*", name="auth", access=public, target="api", upgrades=()),
        RouteRule(
            path="/.well-known/jwks.json", name="jwks", access=public, target="api", upgrades=()
        ),
    ]


def make_verify_endpoint(settings: Settings) -> VerifyEndpoint:
    """The paths at which other proxies ask."""
    return VerifyEndpoint(f"{settings.auth_prefix}/{_VERIFY}")


def make_rules(settings: Settings) -> list[RouteRule]:
    """The rules of the file."""
    return [
        RouteRule(
            path=each.path,
            access=Access(each.access),
            name=each.name,
            methods=each.methods,
            hosts=each.hosts,
            roles=each.roles,
            scopes=each.scopes,
            claims=each.claims,
            upgrades=each.upgrades,
            outage=Outage(each.session_outage) if each.session_outage else None,
            ends_live=each.session_end == "close",
            preflight=each.preflight == "pass",
            method_override=each.method_override,
            paths_case=each.paths_case,
            trailing_slash=each.trailing_slash,
            forwards=Forwards(each.forward_credentials) if each.forward_credentials else None,
            credentials=Accepts(each.credentials),
            passes_escapes=each.path_escapes == "pass",
        )
        for each in settings.route
    ]


def _make_identity(settings: Settings) -> IdentityHeaders:
    with config_errors_at("identity"):
        return IdentityHeaders(settings.identity)


def _make_connector(settings: Settings) -> Connector:
    """The connector that opens connections to the application."""
    upstream = settings.upstream_url
    if upstream.scheme == "unix":
        return UnixConnector(upstream.path)
    return TcpConnector(
        upstream.host,
        upstream.port,
        make_upstream_tls(settings),
        settings.upstream_server_name,
    )


def make_upstream_pool_limits(settings: Settings) -> UpstreamPoolLimits:
    """The limits of connections to the application."""
    return UpstreamPoolLimits(
        connections=settings.upstream_max_connections,
        connect_timeout=settings.upstream_connect_timeout,
        idle_timeout=settings.upstream_idle_timeout,
        head=make_head_limits(settings),
    )


def make_cookie_form(settings: Settings) -> CookieForm:
    """The name and attributes of the session cookie."""
    return CookieForm(
        settings.session_cookie,
        settings.session_cookie_samesite.capitalize(),
        settings.session_cookie_domain,
    )


def make_clearing_line(settings: Settings) -> bytes:
    """The header line that deletes the session cookie."""
    return b"Set-Cookie: %b\r\n" % make_cookie_form(settings).clearing.encode("ascii")


def make_paths(settings: Settings) -> TargetParser:
    """The reader of request paths, which rejects or normalises ambiguous ones."""
    if settings.paths_ambiguous == "reject":
        return TargetParser()
    return NormalisingTargetParser(
        tuple(rule.path.removesuffix("/*").encode() for rule in _own_rules(settings))
    )


def make_head_limits(settings: Settings) -> HeadLimits:
    """The limits of a request's or an answer's head."""
    return HeadLimits(settings.max_head_size, settings.max_headers)
