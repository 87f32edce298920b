"""The measured proxies: what each needs, what it can do, and in which setups.

Owns one uniform entry per proxy. Must not know the requests of scenarios or the output format.
"""

from __future__ import annotations

from bench import fronts, starting
from bench.lab import APACHE_MODULES, MODULES
from bench.proxy import Proxy
from bench.scenarios import Need, Setup

CARRY = frozenset({Need.FORWARD, Need.CROWD, Need.RATE})
GUARD = frozenset({Need.FORWARD, Need.DENY})
BUSY_GUARD = GUARD | CARRY
FULL = BUSY_GUARD | {Need.VERIFY}
OURS = FULL | {Need.LOGIN}

ALL = frozenset(Setup)
HS256_ONLY = frozenset({Setup.SESSIONS, Setup.STATELESS})
NO_TLS = HS256_ONLY | {Setup.RS256}
WITH_TLS = frozenset({Setup.SESSIONS, Setup.TLS})

LUA_FILES = (f"{MODULES}/ngx_http_lua_module.so", "/usr/lib/x86_64-linux-gnu/lua/5.1/cjson.so")

PROXIES = (
    Proxy("sidecar", "sidecar, local store", starting.start_sidecar, OURS, (), setups=ALL),
    Proxy(
        "sidecar-redis",
        "sidecar, Redis store",
        starting.start_sidecar,
        OURS,
        ("redis-server",),
        redis=True,
    ),
    Proxy(
        "haproxy",
        "HAProxy, jwt_verify, no sessions",
        starting.start_haproxy,
        FULL,
        ("haproxy",),
        setups=ALL,
    ),
    Proxy("envoy", "Envoy, jwt_authn", starting.start_envoy, BUSY_GUARD, ("envoy",), setups=ALL),
    Proxy(
        "envoy-cache",
        "Envoy, jwt_authn with its cache",
        starting.start_envoy,
        BUSY_GUARD,
        ("envoy",),
        setups=NO_TLS,
    ),
    Proxy("nginx", "nginx, plain proxy", starting.start_nginx, CARRY, ("nginx",), setups=WITH_TLS),
    Proxy(
        "lua",
        "nginx + Lua, JWT",
        starting.start_nginx,
        FULL,
        ("nginx",),
        LUA_FILES,
        setups=HS256_ONLY,
    ),
    Proxy(
        "lua-redis",
        "nginx + Lua, JWT + one Redis GET",
        starting.start_nginx,
        FULL,
        ("nginx", "redis-server"),
        LUA_FILES,
        redis=True,
    ),
    Proxy("caddy", "Caddy, plain proxy", starting.start_caddy, CARRY, ("caddy",), setups=WITH_TLS),
    Proxy(
        "traefik",
        "Traefik, plain proxy",
        starting.start_traefik,
        CARRY,
        ("traefik",),
        setups=WITH_TLS,
    ),
    Proxy(
        "oauth2-proxy",
        "oauth2-proxy, bearer, RS256 in every scenario",
        starting.start_oauth2_proxy,
        GUARD,
        ("oauth2-proxy",),
        setups=frozenset({Setup.SESSIONS, Setup.RS256}),
        whoami="/whoami/forwarded",
    ),
    Proxy(
        "apache",
        "Apache mod_auth_openidc, cache in Redis",
        starting.start_apache,
        GUARD,
        ("apache2", "redis-server"),
        (f"{APACHE_MODULES}/mod_auth_openidc.so",),
        redis=True,
    ),
    Proxy(
        "nginx-sidecar",
        "nginx auth_request + sidecar",
        starting.start_behind(fronts.start_nginx),
        GUARD,
        ("nginx",),
    ),
    Proxy(
        "envoy-sidecar",
        "Envoy ext_authz + sidecar",
        starting.start_behind(fronts.start_envoy),
        GUARD,
        ("envoy",),
    ),
    Proxy(
        "traefik-sidecar",
        "Traefik ForwardAuth + sidecar",
        starting.start_behind(fronts.start_traefik),
        GUARD,
        ("traefik",),
    ),
    Proxy("direct", "no proxy", starting.start_direct, frozenset({Need.RATE}), ()),
)
