"""Request targets: the path that policy matches is the path that any upstream resolves."""

from __future__ import annotations

import contextlib
import posixpath
import re
from typing import Final
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from sidecar.auth.route_rule import Access, RouteRule
from sidecar.auth.routes import RouteTable
from sidecar.errors import PeerError
from sidecar.wire.target import (
    NormalisingTargetParser,
    TargetParser,
    is_host,
    read_escaped_target,
    split_absolute,
)

ROUTES: Final = RouteTable(
    [
        RouteRule(path="/open/*", access=Access.PUBLIC),
        RouteRule(path="/exact", access=Access.PUBLIC),
        RouteRule(path="/caf%C3%A9", access=Access.PUBLIC),
    ]
)


PASSING: Final = RouteTable(
    [
        RouteRule(path="/a/*", access=Access.PUBLIC, passes_escapes=True),
        RouteRule(path="/b/*", roles=["r"]),
        RouteRule(path="/*", roles=["s"]),
    ]
)
OWN: Final = (b"/auth/verify", b"/auth")


def check(data: bytes) -> None:
    """Read the input as an origin-form target, or else as an absolute one."""
    if data[:1] == b"/":
        check_normalised(data)
        check_escaped(data)
    paths = TargetParser()
    authority, target = b"", data
    try:
        if data[:1] != b"/":
            authority, target = split_absolute(data)
            target = target or b"/"  # for any method except OPTIONS
        path = paths.parse(target)
    except PeerError as error:
        assert error.status == 400
        return
    assert paths.parse(target) == path == TargetParser().parse(target)
    check_path(target, path)
    if is_host(authority):
        parts = urlsplit(data.decode("ascii"))
        assert parts.netloc.encode() == authority
        assert (parts.path or "/").encode() == target.partition(b"?")[0]


def check_normalised(target: bytes) -> None:
    """Check that a normalized target is stable and is the one that policy matched."""
    paths = NormalisingTargetParser(OWN)
    try:
        path = paths.parse(target)
    except PeerError as error:
        assert error.status == 400
        return
    goes_on = paths.as_forwarded(target)
    assert paths.parse(target) == path == TargetParser().parse(goes_on)
    assert paths.parse(goes_on) == path
    assert paths.as_forwarded(goes_on) == goes_on
    assert goes_on.partition(b"?")[1:] == target.partition(b"?")[1:]
    # Ambiguous octets are refused everywhere, even where normalization would remove them.
    received = target.partition(b"?")[0]
    assert not set(unquote_to_bytes(received)) & set(b"\\;\0\r\n\x7f"), target
    assert b"%2f" not in received.lower(), target
    if path == "/auth" or path.startswith("/auth/"):
        assert goes_on == target
    check_path(goes_on, path)


def check_escaped(target: bytes) -> None:
    """Check that a path whose escapes pass stays below its route for every reader."""
    path = read_escaped_target(target)
    if path is None:
        return
    route = PASSING.match(b"GET", b"h", path)
    for seen in readings(target.partition(b"?")[0]):
        assert not {".", ".."} & set(seen.split("/")), seen
        assert not set(seen) & set("\\\0\r\n\x7f"), seen
        assert not seen.startswith("//"), seen
        if route.passes_escapes:
            merged = re.sub("/+", "/", seen)
            assert PASSING.match(b"GET", b"h", merged) is route, merged
    with contextlib.suppress(PeerError):  # a plain path has the plain reading
        assert TargetParser().parse(target) == path


def readings(path: bytes) -> set[str]:
    """What servers make of a path: decoded once or twice, and without parameters at any time."""
    found = {unquote_to_bytes(each) for each in without_parameters({path})}
    for _ in range(2):
        found = without_parameters(found)
        found |= {unquote_to_bytes(each) for each in found}
    return {each.decode() for each in found}


def without_parameters(paths: set[bytes]) -> set[bytes]:
    """These paths as they are, and without path parameters."""
    return paths | {re.sub(rb";[^/]*", b"", each) for each in paths}


def check_path(target: bytes, path: str) -> None:
    """Check that no further decoding or normalization leads to another path."""
    assert all(0x21 <= octet < 0x7F for octet in target)
    raw = target.partition(b"?")[0]
    assert unquote_to_bytes(raw).decode() == path
    assert path.startswith("/")
    assert "\0" not in path
    # Decoding again, as a second server would, changes nothing.
    assert unquote(path, errors="strict") == path
    # Servlet containers remove path parameters, and Windows treats backslashes as slashes.
    assert re.sub(r";[^/]*", "", path) == path == path.replace("\\", "/")
    assert posixpath.normpath(path) == (path.rstrip("/") or "/")
    # The path is the same when it is quoted and parsed again.
    written = quote(path, safe="/").encode()
    if "%" not in path:
        assert TargetParser().parse(written) == path
    seen = ROUTES.match(b"GET", b"h", path)
    opened = path in {"/exact", "/open", "/café"} or path.startswith("/open/")
    assert seen.public == opened, path
    reached = posixpath.normpath(unquote(raw.decode()))
    if path.endswith("/") and reached != "/":
        reached += "/"  # `normpath` removes it, but a route may require it
    assert ROUTES.match(b"GET", b"h", reached).public == seen.public
