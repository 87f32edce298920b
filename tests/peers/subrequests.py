"""Test doubles for Traefik's ForwardAuth and Envoy's ext_authz, which are not available here.

They are written after the proxies' sources. Each follows our sample configuration in config/ and
raises KeyError or AssertionError for anything in it that it does not implement. They speak HTTP/1.1
without tunnels. aiohttp is the transport and adds nothing to a request.
"""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

import yaml
from aiohttp import ClientConnectionError, ClientSession, DummyCookieJar, web
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

HOP_BY_HOP: Final = (
    *("Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"),
    *("Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization"),
)
# Headers that aiohttp would add.
ADDED: Final = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


@dataclass(slots=True)
class Answer:
    """A server's answer."""

    status: int
    headers: CIMultiDict[str]
    body: bytes


@dataclass(slots=True)
class Peer(ABC):
    """A proxy in this event loop; `config` is its parsed configuration."""

    config: Any
    _session: ClientSession = field(init=False)

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncIterator[int]:
        """Run the proxy and yield the port it listens on."""
        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None)
        async with ClientSession(
            cookie_jar=DummyCookieJar(), skip_auto_headers=ADDED, auto_decompress=False
        ) as self._session:
            await runner.setup()
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                yield runner.addresses[0][1]
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        answer = await self.answer(request)
        for name in (*HOP_BY_HOP, "Content-Length", "Date", "Server"):
            answer.headers.popall(name, None)
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    @abstractmethod
    async def answer(self, request: web.Request) -> Answer:
        """Send the subrequest, then forward the request or return the denial."""

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        """Send one request with exactly these headers. Raises ClientConnectionError."""
        async with self._session.request(
            method, URL(url, encoded=True), headers=headers, data=body, allow_redirects=False
        ) as got:
            return Answer(got.status, CIMultiDict(got.headers), await got.read())

    async def forward(self, request: web.Request, base: str, headers: CIMultiDict[str]) -> Answer:
        """Send the request to its server without hop-by-hop headers, as both proxies do."""
        drop_named(headers)
        for name in (*HOP_BY_HOP, "Content-Length"):
            headers.popall(name, None)
        body = await request.read()
        return await self.send(request.method, base + request.raw_path, headers, body or None)


def drop_named(headers: CIMultiDict[str]) -> None:
    """Remove the headers named in Connection; Traefik does so last, Envoy first."""
    for name in ",".join(headers.getall("Connection", [])).split(","):
        headers.popall(name.strip(), None)
    headers.popall("Connection", None)


def is_own(path: str) -> bool:
    """Return whether Traefik's sample routes this path to the sidecar; the rule has a test."""
    if path == "/.well-known/jwks.json":
        return True
    return path.startswith("/auth/") and not path.startswith("/auth/verify")


class Traefik(Peer):
    """Traefik's middleware: asks the address by GET and returns any answer but 2xx as it is."""

    __slots__ = ()

    async def answer(self, request: web.Request) -> Answer:
        """Send the subrequest, then forward the request or return the denial."""
        http = self.config["http"]
        (middleware,) = http["routers"]["application"]["middlewares"]
        auth = http["middlewares"][middleware]["forwardAuth"]
        headers = CIMultiDict(request.headers)
        if is_own(request.path):
            return await self.forward(request, self._service("sidecar"), headers)
        if auth["trustForwardHeader"] is not False:
            raise AssertionError("clients could choose the subrequest's target")
        # The subrequest has the client's headers without hop-by-hop ones, then Traefik's own.
        asked = CIMultiDict(headers)
        for name in (*HOP_BY_HOP, "Content-Length", "Host"):
            asked.popall(name, None)
        asked["Host"] = urlsplit(auth["address"]).netloc
        asked["X-Forwarded-For"] = str(request.remote)
        asked["X-Forwarded-Method"] = request.method
        asked["X-Forwarded-Proto"] = "http"
        asked["X-Forwarded-Host"] = headers["Host"]
        asked["X-Forwarded-Uri"] = request.raw_path
        try:
            said = await self.send("GET", auth["address"], asked)
        except ClientConnectionError:
            return Answer(500, CIMultiDict(), b"")
        if not 200 <= said.status < 300:
            if "Location" in said.headers:  # made absolute, relative to the address asked
                said.headers["Location"] = urljoin(auth["address"], said.headers["Location"])
            return said
        copied = re.compile(auth["authResponseHeadersRegex"])
        for name in [name for name in headers if copied.search(name)]:
            headers.popall(name, None)
        for name in [name for name in said.headers if copied.search(name)]:
            headers.popall(name, None)
            headers[name] = said.headers[name]
        headers["X-Forwarded-For"] = str(request.remote)
        return await self.forward(request, self._service("application"), headers)

    def _service(self, name: str) -> str:
        (server,) = self.config["http"]["services"][name]["loadBalancer"]["servers"]
        return str(server["url"])


class Envoy(Peer):
    """Envoy's filter: sends the same method, path and Host and few headers; only a 200 allows."""

    __slots__ = ()

    async def answer(self, request: web.Request) -> Answer:
        """Send the subrequest, then forward the request or return the denial."""
        manager = self._manager()
        if manager["common_http_protocol_options"] != {
            "headers_with_underscores_action": "DROP_HEADER"
        }:
            raise AssertionError("headers with underscores would pass")
        headers = CIMultiDict(
            (name, value) for name, value in request.headers.items() if "_" not in name
        )
        drop_named(headers)
        if manager["use_remote_address"]:
            headers["X-Forwarded-For"] = str(request.remote)
            headers["X-Forwarded-Proto"] = "http"
        for name in [name for name in headers if name.lower().startswith("x-envoy-")]:
            headers.popall(name, None)  # from an external client
        route = self._route(manager, request.raw_path.partition("?")[0])
        if not route.get("typed_per_filter_config"):
            refused = await self._ask(manager, request, headers)
            if refused is not None:
                return refused
        if "direct_response" in route:
            return Answer(route["direct_response"]["status"], CIMultiDict(), b"")
        return await self.forward(request, self._cluster(route["route"]["cluster"]), headers)

    async def _ask(
        self, manager: Any, request: web.Request, headers: CIMultiDict[str]
    ) -> Answer | None:
        """Return None, with the headers set, if the request is allowed, else the denial."""
        authz = next(
            each["typed_config"] for each in manager["http_filters"] if "ext_authz" in each["name"]
        )
        service = authz["http_service"]
        asked = CIMultiDict(
            (name, value)
            for name, value in headers.items()
            if name.lower() in {"host", "authorization"}
            or matches(authz["allowed_headers"]["patterns"], name)
        )
        asked["Content-Length"] = "0"
        base = self._cluster(service["server_uri"]["cluster"])
        url = base + service["path_prefix"] + request.raw_path
        try:
            said = await self.send(request.method, url, asked)
        except ClientConnectionError:
            said = None
        if said is None or said.status >= 500:
            if authz["failure_mode_allow"]:
                return None
            if authz["status_on_error"] != {"code": "ServiceUnavailable"}:
                raise AssertionError("only status_on_error 503 is implemented")
            return Answer(503, CIMultiDict(), b"")
        if said.status != 200:
            return said
        patterns = service["authorization_response"]["allowed_upstream_headers"]["patterns"]
        for name in [name for name in said.headers if matches(patterns, name)]:
            headers.popall(name, None)
            headers[name] = said.headers[name]
        return None

    def _manager(self) -> Any:
        (listener,) = self.config["static_resources"]["listeners"]
        ((network_filter,),) = (each["filters"] for each in listener["filter_chains"])
        return network_filter["typed_config"]

    def _route(self, manager: Any, path: str) -> Any:
        (host,) = manager["route_config"]["virtual_hosts"]
        for route in host["routes"]:
            match = route["match"]
            if path == match.get("path") or path.startswith(match.get("prefix", "\0")):
                return route
        raise KeyError(path)

    def _cluster(self, name: str) -> str:
        (cluster,) = (c for c in self.config["static_resources"]["clusters"] if c["name"] == name)
        (locality,) = cluster["load_assignment"]["endpoints"]
        (endpoint,) = locality["lb_endpoints"]
        address = endpoint["endpoint"]["address"]["socket_address"]
        return f"http://{address['address']}:{address['port_value']}"


def matches(patterns: list[dict[str, str]], name: str) -> bool:
    """Return whether one of Envoy's string matchers matches this header name in lower case."""
    name = name.lower()
    return any(
        name == each.get("exact") or ("prefix" in each and name.startswith(each["prefix"]))
        for each in patterns
    )


def parse(text: str) -> Any:
    """Parse a configuration file."""
    return yaml.safe_load(text)
