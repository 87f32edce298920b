"""The kinds of network values: addresses, hosts, URLs, origins and networks.

Only the syntax is checked: nothing is resolved, and no connection is opened.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, Literal, cast
from urllib.parse import SplitResult, urlsplit

import msgspec

from sidecar.secret import Secret
from sidecar.settings.kinds import InvalidValue, ValueKind, listed, shown

Network = IPv4Network | IPv6Network
Scheme = Literal["http", "https", "unix"]

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
WILDCARD: Final = frozenset({"0.0.0.0", "::"})
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*):([0-9]{1,5})")


class Address(msgspec.Struct, frozen=True):
    """The address of a listener. With port 0, the system chooses a free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


class Upstream(msgspec.Struct, frozen=True):
    """The address of the application: `host` and `port`, or `path` for a unix socket."""

    scheme: Scheme
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"


def bracketed(host: str) -> str:
    """Return a host as it is written in an authority: an IPv6 address gets brackets."""
    return f"[{host}]" if ":" in host else host


def is_host(host: str) -> bool:
    """Whether this is a host name, an IPv4 address, or an IPv6 address without brackets."""
    if ":" not in host:
        return len(host) <= 253 and _NAME.fullmatch(host) is not None
    try:
        return str(IPv6Address(host)) != ""
    except ValueError:
        return False


def address() -> ValueKind:
    """An address such as `host:port`; `:port` means every IPv4 address."""

    def read(raw: object) -> Address:
        found = _ADDRESS.fullmatch(raw) if isinstance(raw, str) else None
        if not found:
            raise InvalidValue
        host = found[1].strip("[]") or "0.0.0.0"
        if not is_host(host) or int(found[2]) > 65535:
            raise InvalidValue
        return Address(host, int(found[2]))

    return ValueKind("an address such as 0.0.0.0:5005 or [::]:5005", read, str)


def host(*, empty: bool = False) -> ValueKind:
    """A host name or an IP address."""

    def read(raw: object) -> str:
        if not isinstance(raw, str) or not (is_host(raw) or (empty and not raw)):
            raise InvalidValue
        return raw

    return ValueKind("a host name or an address", read)


def upstream() -> ValueKind:
    """The URL of the upstream: `http://host:port`, `https://host:port` or `unix:///path`."""

    def read(raw: object) -> Upstream:
        url = _split(raw)
        if url.query or url.fragment:
            raise InvalidValue
        if url.scheme == "unix":
            if url.netloc or not url.path.startswith("/"):
                raise InvalidValue
            return Upstream("unix", path=url.path)
        if url.scheme not in DEFAULT_PORTS:
            raise InvalidValue
        if url.path not in ("", "/"):
            raise InvalidValue(
                f"expected no path in {shown(raw)}: a request's own path is forwarded unchanged"
            )
        port = url.port or DEFAULT_PORTS[url.scheme]
        return Upstream(cast("Scheme", url.scheme), url.hostname or "", port)

    expected = "a URL such as http://127.0.0.1:8080, https://app:8443 or unix:///run/app.sock"
    return ValueKind(expected, read, str)


def web_url(*, empty: bool = True) -> ValueKind:
    """An http or https URL without user info or fragment."""

    def read(raw: object) -> str:
        if raw == "" and empty:
            return ""
        url = _split(raw)
        if url.scheme not in DEFAULT_PORTS or url.fragment:
            raise InvalidValue
        return url.geturl()

    return ValueKind("a URL that begins with https:// or http://", read)


def is_web_url(text: str) -> bool:
    """Whether this is an http or https URL."""
    try:
        return bool(web_url(empty=False).read(text))
    except InvalidValue:
        return False


def origin() -> ValueKind:
    """An origin, `scheme://host[:port]`, as browsers send it: lower case, no default port."""

    def read(raw: object) -> str:
        url = _split(raw)
        if url.scheme not in DEFAULT_PORTS or url.path not in ("", "/") or url.query:
            raise InvalidValue
        port = f":{url.port}" if url.port not in (None, DEFAULT_PORTS[url.scheme]) else ""
        return f"{url.scheme}://{bracketed(url.hostname or '')}{port}"

    return ValueKind("an origin such as https://app.example.com", read)


def allowed_origins() -> ValueKind:
    """A list of origins; `https://*.example.com` is every direct sub-domain, `*` every origin."""
    one = origin()

    def read(raw: object) -> object:
        if raw == "*" or not isinstance(raw, str) or "://*." not in raw:
            return raw if raw == "*" else one.read(raw)
        parent = str(one.read(raw.replace("://*.", "://", 1)))
        if not is_domain(urlsplit(parent).hostname or ""):
            raise InvalidValue(f"expected a domain of two or more names after *. in {shown(raw)}")
        return parent.replace("://", "://*.", 1)

    expected = 'an origin such as https://app.example.com, https://*.example.com or "*"'
    return listed(ValueKind(expected, read), "a list of origins such as https://app.example.com")


def is_domain(name: str) -> bool:
    """Whether this is a host name of two or more labels, and not an IPv4 address."""
    if ":" in name or not is_host(name) or name.endswith("."):
        return False
    return "." in name and not name.rpartition(".")[2].isdigit()


def domain() -> ValueKind:
    """The Domain of a cookie (RFC 6265 section 5.2.3), in lower case; or empty."""

    def read(raw: object) -> str:
        if not isinstance(raw, str) or not (raw == "" or is_domain(raw)):
            raise InvalidValue
        return raw.lower()

    return ValueKind("a domain such as example.com, of two or more names", read)


def redis_url() -> ValueKind:
    """A Redis URL, also for Sentinel or Cluster. It may have a password, so it is never shown."""

    def read(raw: object) -> Secret:
        if raw == "":
            return Secret("")
        if re.match(r"rediss?\+(sentinel|cluster)://", str(raw)):
            return _url_of_several_hosts(str(raw))
        url = _split(raw, user_info=True)
        if url.scheme in ("redis", "rediss"):
            known = re.fullmatch(r"/?|/[0-9]{1,5}", url.path) is not None
        else:
            known = url.scheme == "unix" and not url.hostname and url.path.startswith("/")
        if not known:
            raise InvalidValue
        return Secret(str(raw))

    expected = (
        "a URL such as redis://redis:6379/0, rediss://user@redis:6380, unix:///run/redis.sock or "
        "redis+sentinel://one:26379,two:26379/mymaster/0, redis+cluster://one:6379,two:6379 (its "
        "value is not shown here)"
    )
    return ValueKind(expected, read, secret=True)


def _url_of_several_hosts(raw: str) -> Secret:
    """Read the URL of a Sentinel deployment or a Cluster. Raises ValueError."""
    url = urlsplit(raw)
    hosts = url.netloc.rpartition("@")[2].split(",")
    path = r"/?" if url.scheme.endswith("cluster") else r"/[A-Za-z0-9._-]+(/[0-9]{1,5})?"
    if not re.fullmatch(path, url.path) or url.query or url.fragment:
        raise InvalidValue
    for each in hosts:
        _split(f"redis://{each}")
    return Secret(raw)


def networks() -> ValueKind:
    """A list of CIDR blocks and addresses."""

    def read(raw: object) -> Network:
        if not isinstance(raw, str):
            raise InvalidValue
        try:
            return ip_network(raw)
        except ValueError:
            block = ip_network(raw, strict=False)  # raises if it is not a network at all
        raise InvalidValue(f"expected a network without host bits: {block}; got {shown(raw)}")

    expected = "a list of networks such as 10.0.0.0/8, fd00::/8"
    return listed(ValueKind("a network such as 10.0.0.0/8", read, str), expected)


def _split(raw: object, *, user_info: bool = False) -> SplitResult:
    """Split a URL and check its host and port. Raises ValueError."""
    if not isinstance(raw, str) or not raw.isascii() or not raw.isprintable() or " " in raw:
        raise InvalidValue
    url = urlsplit(raw)
    if "@" in url.netloc and not user_info:
        raise InvalidValue("expected a URL without a user name or password")
    if url.port == 0 or (url.scheme != "unix" and not is_host(url.hostname or "")):
        raise InvalidValue
    return url
