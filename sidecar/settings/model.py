"""Every setting with its kind and default: the list by which flags, environment and file are read.

The name of a field is its key in the file, and in upper case its environment variable. Times are in
seconds.
"""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

import msgspec

from sidecar.secret import Secret
from sidecar.settings import kinds, net
from sidecar.settings.kinds import ValueKind
from sidecar.settings.net import Address, Network, Upstream
from sidecar.settings.routes import (
    DEFAULT_PREFIX,
    OUTAGE,
    RouteSettings,
    Scalar,
    SessionOutage,
    claim_values,
    own_prefix,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

# The least length of a secret in bytes: that of the algorithm's hash (RFC 7518 section 3.2).
SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
ASYMMETRIC: Final = (
    *("RS256", "RS384", "RS512"),
    *("PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512"),
    *("EdDSA", "Ed25519", "Ed448"),
)
MAX_HEAD: Final = 1 << 20  # bytes
HEAD_SIZE: Final = 32768
TOKEN_SIZE: Final = 16384
TOKEN_ROOM: Final = 512  # bytes of a head beside the token: the least that a request needs
NO_SECRET: Final = Secret("")
ANY_AUDIENCE: Final = "*"  # as an audience: tokens for any application are accepted
# No characters of a pattern, because ACL rules and scans use the prefix in patterns. No braces: in
# a cluster, they would put every key on one node.
KEY_PREFIX: Final = r"[A-Za-z0-9_.:/@-]{1,64}"
KEY_PREFIX_EXPECTED: Final = "1 to 64 of the characters A–Z a–z 0–9 _ . : / @ -"  # noqa: RUF001

HEADER: Final = r"[A-Za-z][A-Za-z0-9-]{0,63}"

Seconds = Annotated[float, kinds.duration("1ms")]
LogLevel = Literal["debug", "info", "warning", "error"]
File = Annotated[str, kinds.file_path()]
Hidden = Annotated[Secret, kinds.hidden()]
Claim = Annotated[str, kinds.claim(empty=True)]
Claims = Annotated[
    tuple[str, ...],
    kinds.listed(kinds.claim(), 'a claim, or a list of claims such as ["realm_access.roles"]'),
]
SessionMode = Annotated[
    Literal["required", "denylist", "none"], kinds.choice("required", "denylist", "none")
]


class IssuerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[issuer]]`: a foreign issuer. Its keys come from `jwks_url` or `key_file` (PEM).

    With neither, its metadata says where they are.
    """

    issuer: Annotated[str, kinds.text()]
    audience: Annotated[
        str,
        kinds.text(
            'the name of this application in the issuer\'s tokens (their "aud"), '
            f'or "{ANY_AUDIENCE}" to accept tokens for any application'
        ),
    ]
    jwks_url: Annotated[str, net.web_url()] = ""
    key_file: File = ""
    ca_file: File = ""  # authorities of the certificate at jwks_url; empty: the system's
    token_file: File = ""  # a bearer token to send when the keys are fetched
    algorithms: Annotated[
        tuple[str, ...], kinds.listed(kinds.choice(*ASYMMETRIC), "a list of algorithms")
    ] = ()  # empty: those that fit the key
    session_mode: SessionMode = "required"
    id_tokens: Annotated[bool, kinds.switch()] = False
    claims: Annotated[dict[str, tuple[Scalar, ...]], claim_values()] = {}
    # Where claims are. Lists add up.
    audience_claim: Claim = ""  # empty: aud
    subject_claim: Claim = ""  # empty: sub
    user_claim: Claim = ""  # empty: the subject
    roles_claim: Claims = ()  # empty: roles
    scopes_claim: Claims = ()  # empty: the first of scope, scopes and scp that has any


class CorsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The `[cors]` table: pages of other origins that may use the sidecar's own answers."""

    origins: Annotated[tuple[str, ...], net.allowed_origins()]
    credentials: Annotated[bool, kinds.switch()] = False
    headers: Annotated[
        tuple[str, ...],
        kinds.listed(kinds.matching(HEADER, "a header's name"), "a list of names of headers"),
    ] = ("Authorization", "Content-Type")
    max_age: Annotated[float, kinds.duration("0", "1d")] = 600.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the sidecar; `settings_from` reads and checks them."""

    # Listeners and the upstream
    listen: Annotated[Address, net.address()] = Address("0.0.0.0", 5005)
    admin_listen: Annotated[Address, net.address()] = Address("0.0.0.0", 9105)
    tls_cert_file: File = ""  # for listen; empty: no TLS
    tls_key_file: File = ""
    tls_min_version: Annotated[Literal["1.2", "1.3"], kinds.choice("1.2", "1.3")] = "1.2"
    tls_client_auth: Annotated[
        Literal["off", "optional", "required"], kinds.choice("off", "optional", "required")
    ] = "off"
    tls_client_ca_file: File = ""
    upstream_url: Annotated[Upstream, net.upstream()] = Upstream("http", "127.0.0.1", 8080)
    upstream_ca_file: File = ""
    upstream_cert_file: File = ""
    upstream_key_file: File = ""
    upstream_server_name: Annotated[str, net.host(empty=True)] = ""  # empty: the host of the URL
    upstream_connect_timeout: Seconds = 5.0
    upstream_timeout: Seconds = 60.0  # until the response head
    upstream_idle_timeout: Seconds = 60.0
    upstream_max_connections: Annotated[int, kinds.integer(1, 65535)] = 256
    upstream_queue_timeout: Annotated[float, kinds.duration()] = 5.0

    # Tokens
    jwt_secret: Hidden
    jwt_secret_file: File = ""
    jwt_secret_previous: Hidden = NO_SECRET
    jwt_secret_previous_file: Annotated[str, kinds.file_path(absent=True)] = ""
    refresh_secret: Hidden
    refresh_secret_file: File = ""
    refresh_secret_previous: Hidden = NO_SECRET
    refresh_secret_previous_file: Annotated[str, kinds.file_path(absent=True)] = ""
    allow_weak_secrets: Annotated[bool, kinds.switch()] = False
    jwt_private_key_file: File = ""
    jwt_private_key_previous_file: Annotated[str, kinds.file_path(absent=True)] = ""
    jwt_algorithm: Annotated[str, kinds.choice("", *SECRET_BYTES, *ASYMMETRIC)] = ""
    jwt_issuer: Annotated[str, kinds.text()] = "auth-sidecar"
    jwt_audience: Annotated[str, kinds.text("a string on one line", empty=True)] = "auth-sidecar"
    jwks_url: Annotated[str, net.web_url()] = ""
    jwt_subject_claim: Claim = ""  # of tokens signed with a key at jwks_url, as in an [[issuer]]
    jwt_roles_claim: Claims = ()
    jwt_scopes_claim: Claims = ()
    jwt_leeway: Annotated[float, kinds.duration("0", "60s")] = 5.0
    access_token_expiry: Annotated[float, kinds.duration("1s")] = 900.0
    refresh_token_expiry: Annotated[float, kinds.duration("1s")] = 7 * 86400.0
    access_grace: Annotated[float, kinds.duration("0", "5m")] = 10.0
    refresh_grace: Annotated[float, kinds.duration("0", "5m")] = 10.0
    refresh_grace_client: Annotated[
        Literal["address+agent", "address", "agent", "any"],
        kinds.choice("address+agent", "address", "agent", "any"),
    ] = "address+agent"
    refresh_grace_repeats: Annotated[int, kinds.integer(0, 10_000)] = 10
    refresh_min_interval: Annotated[float, kinds.duration("0", "5m")] = 1.0

    # Sessions
    session_mode: SessionMode = "required"
    session_store: Annotated[Literal["redis", "local"], kinds.choice("redis", "local")] = "redis"
    session_key: Annotated[Literal["sha256", "token"], kinds.choice("sha256", "token")] = "sha256"
    session_cache_size: Annotated[int, kinds.integer(1, 100_000_000)] = 100_000
    session_outage: Annotated[SessionOutage, OUTAGE] = "local"
    session_max_stale: Seconds = 3600.0
    session_recovery: Annotated[Literal["keep", "migrate"], kinds.choice("keep", "migrate")] = (
        "keep"
    )
    state_dir: Annotated[str, kinds.folder_path()] = ""
    session_max_age: Annotated[float, kinds.duration("1s")] = 30 * 86400.0
    max_sessions: Annotated[int, kinds.integer(0, 1_000_000)] = 100  # of each user; 0: any number
    max_sessions_reached: Annotated[
        Literal["end_oldest", "refuse"], kinds.choice("end_oldest", "refuse")
    ] = "end_oldest"
    session_no_store: Annotated[bool, kinds.switch()] = True
    redis_url: Annotated[Secret, net.redis_url()] = NO_SECRET
    redis_host: Annotated[str, net.host()] = "localhost"
    redis_port: Annotated[int, kinds.integer(1, 65535)] = 6379
    redis_db: Annotated[int, kinds.integer(0, 65535)] = 0
    redis_username: Annotated[str, kinds.text("a string on one line", empty=True)] = ""
    redis_password: Hidden = NO_SECRET
    redis_password_file: File = ""
    redis_password_command: Annotated[tuple[str, ...], kinds.command()] = ()
    redis_sentinel_username: Annotated[str, kinds.text("a string on one line", empty=True)] = ""
    redis_sentinel_password: Hidden = NO_SECRET
    redis_sentinel_password_file: File = ""
    redis_ca_file: File = ""
    redis_cert_file: File = ""
    redis_key_file: File = ""
    redis_timeout: Seconds = 0.1
    redis_key_prefix: Annotated[str, kinds.matching(KEY_PREFIX, KEY_PREFIX_EXPECTED)] = "session:"

    # Login
    users_file: File = ""
    login_url: Annotated[str, net.web_url()] = ""
    auth_prefix: Annotated[str, own_prefix()] = DEFAULT_PREFIX
    session_cookie: Annotated[str, kinds.matching(kinds.TOKEN, "a cookie's name")] = (
        "__Host-session"
    )
    session_cookie_samesite: Annotated[
        Literal["lax", "strict", "none"], kinds.choice("lax", "strict", "none")
    ] = "lax"
    session_cookie_domain: Annotated[str, net.domain()] = ""  # empty: this host only
    redirect_origins: Annotated[
        tuple[str, ...], kinds.listed(net.origin(), "a list of origins such as https://example.com")
    ] = ()

    login_max_failures: Annotated[int, kinds.integer(0, 1_000_000)] = 10
    login_max_failures_address: Annotated[int, kinds.integer(0, 1_000_000)] = 50
    login_max_failures_user: Annotated[int, kinds.integer(0, 1_000_000)] = 100
    login_window: Annotated[float, kinds.duration("1s", "1d")] = 900.0

    # Clients and limits
    trusted_proxies: Annotated[tuple[Network, ...], net.networks()] = ()
    paths_ambiguous: Annotated[
        Literal["reject", "normalise"], kinds.choice("reject", "normalise")
    ] = "reject"
    max_head_size: Annotated[int, kinds.size(1024, MAX_HEAD)] = HEAD_SIZE
    max_headers: Annotated[int, kinds.integer(8, 1000)] = 100
    max_token_size: Annotated[int, kinds.size(512, MAX_HEAD - TOKEN_ROOM)] = TOKEN_SIZE
    header_timeout: Seconds = 10.0
    idle_timeout: Seconds = 75.0
    max_connections: Annotated[int, kinds.integer(0, 1_000_000)] = 20000
    max_connections_per_address: Annotated[int, kinds.integer(0, 1_000_000)] = 5000
    max_requests: Annotated[int, kinds.integer(0, 1_000_000)] = 5000
    body_buffer_size: Annotated[int, kinds.size(0, 1 << 20)] = 65536
    min_body_rate: Annotated[int, kinds.integer(0, 1_000_000_000)] = 500
    min_send_rate: Annotated[int, kinds.integer(0, 1_000_000_000)] = 500

    # Shutdown
    drain_delay: Annotated[float, kinds.duration("0", "10m")] = 0.0
    drain_timeout: Annotated[float, kinds.duration("0", "1h")] = 20.0

    # Reloading
    watch_files: Annotated[bool, kinds.switch()] = True

    # Logs
    log_level: Annotated[LogLevel, kinds.choice("debug", "info", "warning", "error")] = "info"
    log_format: Annotated[Literal["json", "text"], kinds.choice("json", "text")] = "json"
    access_log: Annotated[Literal["off", "denied", "all"], kinds.choice("off", "denied", "all")] = (
        "denied"
    )

    # Tables
    identity: dict[str, str] = {}  # header → claim, in addition to the default headers
    route: tuple[RouteSettings, ...] = ()
    issuer: tuple[IssuerSettings, ...] = ()
    cors: CorsSettings | None = None


TABLES: Final = ("identity", "route", "issuer", "cors")


def secrets_of(settings: Settings) -> list[Secret]:
    """Return every secret that is set, and the password in redis_url: what logs must not show."""
    values = (getattr(settings, name) for name in Settings.__struct_fields__)
    found = [value for value in values if isinstance(value, Secret) and value]
    password = urlsplit(settings.redis_url.reveal()).password
    if password:
        found += [Secret(password), Secret(unquote(password))]
    return found


def secret_names() -> frozenset[str]:
    """Return the names of the settings that are secrets."""
    return frozenset(name for name, kind in kinds_of(Settings).items() if kind.secret)


# Reading annotations takes 0.4 ms, which a file with a thousand routes would pay for each of them.
@cache
def fields_of(struct: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Return the fields of a struct in order."""
    return msgspec.structs.fields(struct)


@cache
def kinds_of(struct: type[msgspec.Struct]) -> Mapping[str, ValueKind]:
    """Return the kind of each field in order, leaving out fields without a kind (tables)."""
    found: dict[str, ValueKind] = {}
    for field in fields_of(struct):
        for extra in getattr(field.type, "__metadata__", ()):
            if isinstance(extra, ValueKind):
                found[field.name] = extra
    return MappingProxyType(found)
