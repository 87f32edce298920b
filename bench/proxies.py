"""The measured proxies: what each needs, what it can do, and how it is started.

Owns one uniform entry per proxy. Must not know the requests of scenarios or the output format.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import sidecar
from bench.children import Child, free_port
from bench.lab import APACHE_MODULES, MODULES, Lab
from bench.scenarios import Need

if TYPE_CHECKING:
    from collections.abc import Callable

FORWARD = frozenset({Need.FORWARD})
GUARD = frozenset({Need.FORWARD, Need.DENY})
FULL = frozenset({Need.FORWARD, Need.DENY, Need.VERIFY})


@dataclass(frozen=True, slots=True)
class Running:
    """A started proxy: its process, its port, and a token that it accepts."""

    child: Child
    port: int
    token: str


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy. `tools` (programs) and `files` must exist; `redis` means that it queries Redis."""

    name: str
    title: str
    start: Callable[[Lab, Proxy], Running]
    abilities: frozenset[Need]
    tools: tuple[str, ...]
    files: tuple[str, ...] = ()
    redis: bool = False

    def missing(self) -> list[str]:
        """The programs and files that are missing."""
        tools = [tool for tool in self.tools if shutil.which(tool) is None]
        return tools + [path for path in self.files if not Path(path).exists()]


def start_haproxy(lab: Lab, proxy: Proxy) -> Running:
    """Start HAProxy in the foreground with one thread."""
    port = free_port()
    config = lab.fill("haproxy.cfg", f"{proxy.name}.cfg", {"PORT": str(port)})
    child = lab.children.spawn(proxy.name, ["haproxy", "-db", "-f", str(config)], cpu=lab.proxy_cpu)
    return Running(child, port, lab.mint())


def start_nginx(lab: Lab, proxy: Proxy) -> Running:
    """Start one of the nginx peers; if it queries Redis, store a session for its token."""
    port = free_port()
    template = "nginx-lua.conf" if proxy.abilities is FULL else "nginx.conf"
    values = {"PORT": str(port), "NAME": proxy.name, "SESSION": str(proxy.redis).lower()}
    config = lab.fill(template, f"{proxy.name}.conf", values)
    argv = ["nginx", "-c", str(config), "-p", str(lab.directory), "-g", "daemon off;"]
    token = lab.mint()
    if proxy.redis:
        lab.store_session(token)
    return Running(lab.children.spawn(proxy.name, argv, cpu=lab.proxy_cpu), port, token)


def start_caddy(lab: Lab, proxy: Proxy) -> Running:
    """Start Caddy with GOMAXPROCS=1, because every other proxy has one worker."""
    port = free_port()
    config = lab.fill("Caddyfile", "Caddyfile", {"PORT": str(port)})
    argv = ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]
    env = {"GOMAXPROCS": "1", "HOME": str(lab.directory)}
    return Running(
        lab.children.spawn(proxy.name, argv, env=env, cpu=lab.proxy_cpu), port, lab.mint()
    )


def start_apache(lab: Lab, proxy: Proxy) -> Running:
    """Start Apache in the foreground; its workers share the cache in Redis."""
    port = free_port()
    config = lab.fill("apache.conf", f"{proxy.name}.conf", {"PORT": str(port), "NAME": proxy.name})
    argv = ["apache2", "-DFOREGROUND", "-f", str(config)]
    return Running(lab.children.spawn(proxy.name, argv, cpu=lab.proxy_cpu), port, lab.mint())


def start_sidecar(lab: Lab, proxy: Proxy) -> Running:
    """Start the sidecar and log a user in."""
    started = sidecar.start(lab, proxy.name, redis=proxy.redis)
    return Running(started.child, started.port, sidecar.login(started.port))


LUA_FILES = (f"{MODULES}/ngx_http_lua_module.so", "/usr/lib/x86_64-linux-gnu/lua/5.1/cjson.so")

PROXIES = (
    Proxy("sidecar", "sidecar, local store", start_sidecar, FULL, ()),
    Proxy(
        "sidecar-redis", "sidecar, Redis store", start_sidecar, FULL, ("redis-server",), redis=True
    ),
    Proxy("haproxy", "HAProxy, jwt_verify, no sessions", start_haproxy, FULL, ("haproxy",)),
    Proxy("nginx", "nginx, plain proxy", start_nginx, FORWARD, ("nginx",)),
    Proxy("lua", "nginx + Lua, JWT", start_nginx, FULL, ("nginx",), LUA_FILES),
    Proxy(
        "lua-redis",
        "nginx + Lua, JWT + one Redis GET",
        start_nginx,
        FULL,
        ("nginx", "redis-server"),
        LUA_FILES,
        redis=True,
    ),
    Proxy("caddy", "Caddy, plain proxy", start_caddy, FORWARD, ("caddy",)),
    Proxy(
        "apache",
        "Apache mod_auth_openidc, cache in Redis",
        start_apache,
        GUARD,
        ("apache2", "redis-server"),
        (f"{APACHE_MODULES}/mod_auth_openidc.so",),
        redis=True,
    ),
)
