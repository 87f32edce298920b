"""Network values: where to listen, where the upstream and Redis are, whom to trust, which origins.

All are checked by syntax alone: nothing is resolved or connected to.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, Literal, cast
from urllib.parse import SplitResult, urlsplit

import msgspec

from sidecar.secret import Secret
from sidecar.settings.kinds import Kind, Refused, Unfit, listed, shown

Network = IPv4Network | IPv6Network
Scheme = Literal["http", "https", "unix"]

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
WILDCARD: Final = frozenset({"0.0.0.0", "::"})
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*):([0-9]{1,5})")


class Address(msgspec.Struct, frozen=True):
    """Where a listener binds. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


class Upstream(msgspec.Struct, frozen=True):
    """Where the application answers: `host` and `port`, or `path` for a unix socket."""

    scheme: Scheme
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"


def bracketed(host: str) -> str:
    """A host as an authority writes it."""
    return f"[{host}]" if ":" in host else host


def is_host(host: str) -> bool:
    """Whether this is a host name, an IPv4 address, or an IPv6 address without brackets."""
    if ":" not in host:
        return len(host) <= 253 and _NAME.fullmatch(host) is not None
    try:
        return str(IPv6Address(host)) != ""
    except ValueError:
        return False


def address() -> Kind:
    """`host:port`; `:port` means every IPv4 address."""

    def read(raw: object) -> Address:
        found = _ADDRESS.fullmatch(raw) if isinstance(raw, str) else None
        if not found:
            raise Unfit
        host = found[1].strip("[]") or "0.0.0.0"
        if not is_host(host) or int(found[2]) > 65535:
            raise Unfit
        return Address(host, int(found[2]))

    return Kind("an address such as 0.0.0.0:5005 or [::]:5005", read, str)


def host(*, empty: bool = False) -> Kind:
    """A host name or address."""

    def read(raw: object) -> str:
        if not isinstance(raw, str) or not (is_host(raw) or (empty and not raw)):
            raise Unfit
        return raw

    return Kind("a host name or an address", read, empty=empty)


def upstream() -> Kind:
    """`http://host:port`, `https://host:port` or `unix:///path`."""

    def read(raw: object) -> Upstream:
        url = _split(raw)
        if url.query or url.fragment:
            raise Unfit
        if url.scheme == "unix":
            if url.netloc or not url.path.startswith("/"):
                raise Unfit
            return Upstream("unix", path=url.path)
        if url.scheme not in DEFAULT_PORTS:
            raise Unfit
        if url.path not in ("", "/"):
            raise Refused(
                f"expected no path in {shown(raw)}: a request's own path is forwarded unchanged"
            )
        port = url.port or DEFAULT_PORTS[url.scheme]
        return Upstream(cast("Scheme", url.scheme), url.hostname or "", port)

    expected = "a URL such as http://127.0.0.1:8080, https://app:8443 or unix:///run/app.sock"
    return Kind(expected, read, str)


def web_url(*, empty: bool = True) -> Kind:
    """An http or https URL, without user info and fragment."""

    def read(raw: object) -> str:
        if raw == "" and empty:
            return ""
        url = _split(raw)
        if url.scheme not in DEFAULT_PORTS or url.fragment:
            raise Unfit
        return url.geturl()

    return Kind("a URL that begins with https:// or http://", read, empty=empty)


def origin() -> Kind:
    """`scheme://host[:port]`, in the form browsers send it: lower case, no default port."""

    def read(raw: object) -> str:
        url = _split(raw)
        if url.scheme not in DEFAULT_PORTS or url.path not in ("", "/") or url.query:
            raise Unfit
        port = f":{url.port}" if url.port not in (None, DEFAULT_PORTS[url.scheme]) else ""
        return f"{url.scheme}://{bracketed(url.hostname or '')}{port}"

    return Kind("an origin such as https://app.example.com", read)


def redis_url() -> Kind:
    """`redis://`, `rediss://` or `unix://`; it may hold a password, so that it is never shown."""

    def read(raw: object) -> Secret:
        if raw == "":
            return Secret("")
        if re.match(r"rediss?\+(sentinel|cluster)://", str(raw)):
            return _several(str(raw))
        url = _split(raw, user_info=True)
        if url.scheme in ("redis", "rediss"):
            known = re.fullmatch(r"/?|/[0-9]{1,5}", url.path) is not None
        else:
            known = url.scheme == "unix" and not url.hostname and url.path.startswith("/")
        if not known:
            raise Unfit
        return Secret(str(raw))

    expected = (
        "a URL such as redis://redis:6379/0, rediss://user@redis:6380, unix:///run/redis.sock or "
        "redis+sentinel://one:26379,two:26379/mymaster/0, redis+cluster://one:6379,two:6379 (its "
        "value is not shown here)"
    )
    return Kind(expected, read, empty=True, secret=True)


def _several(raw: str) -> Secret:
    """A URL of several hosts: sentinels and the name of what they watch, or nodes. Raises Unfit."""
    url = urlsplit(raw)
    hosts = url.netloc.rpartition("@")[2].split(",")
    path = r"/?" if url.scheme.endswith("cluster") else r"/[A-Za-z0-9._-]+(/[0-9]{1,5})?"
    if not re.fullmatch(path, url.path) or url.query or url.fragment:
        raise Unfit
    for each in hosts:
        _split(f"redis://{each}")
    return Secret(raw)


def networks() -> Kind:
    """A list of CIDR blocks and addresses."""

    def read(raw: object) -> Network:
        if not isinstance(raw, str):
            raise Unfit
        try:
            return ip_network(raw)
        except ValueError:
            block = ip_network(raw, strict=False)  # raises when it is no network at all
        raise Refused(f"expected a network without host bits: {block}; got {shown(raw)}")

    several = "a list of networks such as 10.0.0.0/8, fd00::/8"
    return listed(Kind("a network such as 10.0.0.0/8", read, str), several)


def _split(raw: object, *, user_info: bool = False) -> SplitResult:
    """A URL's parts, its port and host known to be well-formed. Raises ValueError."""
    if not isinstance(raw, str) or not raw.isascii() or not raw.isprintable() or " " in raw:
        raise Unfit
    url = urlsplit(raw)
    if "@" in url.netloc and not user_info:
        raise Refused("expected a URL without user name and password")
    if url.port == 0 or (url.scheme != "unix" and not is_host(url.hostname or "")):
        raise Unfit
    return url
