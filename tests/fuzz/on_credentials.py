"""Authorization and Cookie headers: the same credential as a simple reading finds, or none.

Input: the value of Authorization, a line end, and the value of Cookie; an empty value is absent.
"""

from __future__ import annotations

import contextlib
import json
import re
from base64 import urlsafe_b64decode
from typing import Final

from sidecar.auth.credentials import (
    MAX_TOKEN,
    Accepts,
    Bearer,
    SessionCookie,
    find_cookies,
    parse_credentials,
)
from sidecar.auth.reason import Reason
from sidecar.wire.head import RequestHead

NAME: Final = b"__Host-session"
ISSUER: Final = "auth-sidecar"


def check(data: bytes) -> None:
    """Compare the result with that of a simple reader that splits the header into pairs."""
    authorization, _, cookie = data.partition(b"\n")
    head = RequestHead()
    head.authorization = authorization or None
    head.cookie = cookie or None
    values = plain_cookies(cookie)
    assert find_cookies(cookie, NAME) == values
    check_alone(head, values)
    found = parse_credentials(head, NAME, {ISSUER})
    bearer = re.fullmatch(rb"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)", authorization)
    if isinstance(found, Bearer):
        assert bearer is not None
        assert found.token == bearer[1]
        assert not values
        assert repr(found) == "Bearer()"
    elif isinstance(found, SessionCookie):
        assert values == [found.value]
        assert re.fullmatch(rb"[A-Za-z0-9_-]{1,512}", found.value)
        assert not names_issuer(authorization)
        assert repr(found) == "SessionCookie()"
    else:
        assert isinstance(found, Reason)
        assert bearer is None or values or len(bearer[1]) > MAX_TOKEN
        if found is Reason.NO_CREDENTIALS:
            assert not values
    head.repeated = frozenset((b"authorization",))
    assert parse_credentials(head, NAME, {ISSUER}) is Reason.CREDENTIALS_AMBIGUOUS


def check_alone(head: RequestHead, values: list[bytes]) -> None:
    """Where one kind of credentials counts, the answer is that without the other header."""
    for accepts, name in ((Accepts.BEARER, "cookie"), (Accepts.COOKIE, "authorization")):
        alone = RequestHead()
        alone.authorization, alone.cookie = head.authorization, head.cookie
        setattr(alone, name, None)
        found = parse_credentials(head, NAME, {ISSUER}, accepts)
        assert found == parse_credentials(alone, NAME, {ISSUER})
        assert accepts is Accepts.BEARER or (found is Reason.NO_CREDENTIALS) == (not values)


def names_issuer(authorization: bytes) -> bool:
    """Whether a lenient reader of the second part of a bearer token finds claims of ours."""
    scheme, _, token = authorization.partition(b" ")
    parts = token.split(b".")
    if scheme.lower() != b"bearer" or len(parts) != 3:
        return False
    with contextlib.suppress(ValueError, RecursionError):
        claims = json.loads(urlsafe_b64decode(parts[1] + b"=="))
        return isinstance(claims, dict) and claims.get("iss") == ISSUER
    return False


def plain_cookies(header: bytes) -> list[bytes]:
    """All values of the session cookie that are not empty (RFC 6265 section 4.2)."""
    pairs = [pair.partition(b"=") for pair in header.split(b";")]
    # White space after a name is part of it, so the name differs (RFC 6265 section 4.1.1).
    found = [(name.lstrip(b" \t"), value.rstrip(b" \t")) for name, _, value in pairs]
    return [value for name, value in found if name == NAME and value]
