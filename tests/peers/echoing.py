"""Real upstreams that report how they understood a request: nginx, HAProxy, Caddy, aiohttp.

Each listens on a Unix socket and answers 200 with its findings in headers `X-Saw-…`. The values are
in brackets, because spaces at the ends of a header value are lost. Caddy returns the body, the
others its length. nginx and HAProxy normalise the path before they report it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from tests.peers.patience import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from tests.peers.raw_client import Response

MODULES: Final = Path("/usr/lib/nginx/modules")
NGINX: Final = """
worker_processes 1;
pid nginx.pid;
error_log stderr emerg;
load_module @MODULES@/ndk_http_module.so;
load_module @MODULES@/ngx_http_lua_module.so;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  client_body_buffer_size 64k;
  server {
    listen unix:@SOCKET@;
    location / {
      content_by_lua_block {
        ngx.req.read_body()
        ngx.header["X-Saw-Method"] = "[" .. ngx.req.get_method() .. "]"
        ngx.header["X-Saw-Path"] = "[" .. ngx.var.uri .. "]"
        ngx.header["X-Saw-Host"] = "[" .. (ngx.var.http_host or "") .. "]"
        ngx.header["X-Saw-User"] = "[" .. (ngx.var.http_x_auth_user or "") .. "]"
        ngx.header["X-Saw-Length"] = "[" .. #(ngx.req.get_body_data() or "") .. "]"
        ngx.header["Content-Length"] = 0
      }
    }
  }
}
"""
HAPROXY: Final = """
global
  nbthread 1
  maxconn 64
  expose-experimental-directives
defaults
  mode http
  timeout client 30s
frontend fe
  bind "unix@@SOCKET@"
  http-request wait-for-body time 5s
  http-request normalize-uri percent-decode-unreserved
  http-request normalize-uri percent-to-uppercase
  http-request normalize-uri path-strip-dot
  http-request normalize-uri path-merge-slashes
  http-request normalize-uri path-strip-dotdot
  http-request return status 200 hdr X-Saw-Method "[%[method]]" hdr X-Saw-Path "[%[path,url_dec]]" \
hdr X-Saw-Host "[%[req.fhdr(host)]]" hdr X-Saw-User "[%[req.fhdr(x-auth-user)]]" \
hdr X-Saw-Length "[%[req.body_len]]"
"""
CADDY: Final = """
{
  admin off
  auto_https off
}
http:// {
  bind unix/@SOCKET@
  header X-Saw-Method "[{http.request.method}]"
  header X-Saw-Path "[{http.request.uri.path}]"
  header X-Saw-Host "[{http.request.hostport}]"
  header X-Saw-User "[{http.request.header.X-Auth-User}]"
  respond "{http.request.body}" 200
}
"""


@dataclass(frozen=True, slots=True)
class Saw:
    """A request as the upstream understood it: `path` is decoded, `length` is that of the body."""

    method: bytes
    path: bytes
    host: bytes
    user: bytes
    length: int


def saw(answer: Response) -> Saw | None:
    """Return what the upstream reports to have seen, or None if it refused the request.

    Caddy cannot report the length for a HEAD; it is 0 then.
    """
    fields = answer.fields
    if "x-saw-path" not in fields:
        return None
    method, path, host, user = (
        fields.one(f"x-saw-{name}")[1:-1] for name in ("method", "path", "host", "user")
    )
    told = fields.all("x-saw-length")
    return Saw(method, path, host, user, int(told[0][1:-1]) if told else len(answer.body))


@contextlib.asynccontextmanager
async def nginx() -> AsyncIterator[str]:
    """Run nginx and yield its URL, in the form of `UPSTREAM_URL`."""
    values = {"@MODULES@": str(MODULES)}

    def argv(config: Path) -> list[str]:
        return ["nginx", "-p", str(config.parent), "-c", str(config), "-g", "daemon off;"]

    async with _running(argv, NGINX, values) as url:
        yield url


@contextlib.asynccontextmanager
async def haproxy() -> AsyncIterator[str]:
    """Run HAProxy and yield its URL."""
    async with _running(lambda config: ["haproxy", "-db", "-f", str(config)], HAPROXY, {}) as url:
        yield url


@contextlib.asynccontextmanager
async def caddy() -> AsyncIterator[str]:
    """Run Caddy and yield its URL."""

    def argv(config: Path) -> list[str]:
        return ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]

    async with _running(argv, CADDY, {}) as url:
        yield url


@contextlib.asynccontextmanager
async def aiohttp() -> AsyncIterator[str]:
    """Run an aiohttp server in this event loop and yield its URL."""

    async def tell(request: web.Request) -> web.Response:
        told = {
            "X-Saw-Method": request.method,
            "X-Saw-Path": request.path,
            "X-Saw-Host": request.host,
            "X-Saw-User": ",".join(request.headers.getall("X-Auth-User", [])),
            "X-Saw-Length": str(len(await request.read())),
        }
        return web.Response(headers={name: f"[{value}]" for name, value in told.items()})

    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", tell)
    runner = web.AppRunner(application)
    with tempfile.TemporaryDirectory() as folder:
        await runner.setup()
        await web.UnixSite(runner, f"{folder}/s").start()
        try:
            yield f"unix://{folder}/s"
        finally:
            await runner.cleanup()


@contextlib.asynccontextmanager
async def _running(
    argv: Callable[[Path], list[str]], template: str, values: Mapping[str, str]
) -> AsyncIterator[str]:
    """Run a program with this configuration and yield its URL once its socket accepts."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        text = template
        for mark, value in {**values, "@SOCKET@": path}.items():
            text = text.replace(mark, value)
        config = Path(folder) / "config"
        config.write_text(text)
        Path(folder).chmod(0o755)
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *argv(config),
                env={**os.environ, "HOME": folder, "PATH": f"{os.environ['PATH']}:/usr/sbin"},
                stdout=output,
                stderr=output,
            )
        try:
            await until(lambda: process.returncode is not None or _listens(path), 20)
            if process.returncode is not None:
                raise AssertionError(f"{argv(config)[0]} ended: {log.read_text()}")
            yield f"unix://{path}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0
