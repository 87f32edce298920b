"""Authorization and Cookie headers: the same credential as a simple reading finds, or none.

Input: the value of Authorization, a line end, and the value of Cookie; an empty value is absent.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.auth.credentials import (
    MAX_TOKEN,
    Bearer,
    SessionCookie,
    find_cookies,
    parse_credentials,
)
from sidecar.auth.reason import Reason
from sidecar.wire.head import RequestHead

NAME: Final = b"__Host-session"


def check(data: bytes) -> None:
    """Compare the result with that of a simple reader that splits the header into pairs."""
    authorization, _, cookie = data.partition(b"\n")
    head = RequestHead()
    head.authorization = authorization or None
    head.cookie = cookie or None
    values = plain_cookies(cookie)
    assert find_cookies(cookie, NAME) == values
    found = parse_credentials(head, NAME)
    bearer = re.fullmatch(rb"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)", authorization)
    if isinstance(found, Bearer):
        assert bearer is not None
        assert found.token == bearer[1]
        assert not values
        assert repr(found) == "Bearer()"
    elif isinstance(found, SessionCookie):
        assert values == [found.value]
        assert re.fullmatch(rb"[A-Za-z0-9_-]{1,512}", found.value)
        assert bearer is None
        assert repr(found) == "SessionCookie()"
    else:
        assert isinstance(found, Reason)
        assert bearer is None or values or len(bearer[1]) > MAX_TOKEN
        if found is Reason.NO_CREDENTIALS:
            assert not values
    head.repeated = frozenset((b"authorization",))
    assert parse_credentials(head, NAME) is Reason.CREDENTIALS_AMBIGUOUS


def plain_cookies(header: bytes) -> list[bytes]:
    """All values of the session cookie that are not empty (RFC 6265 section 4.2)."""
    pairs = [pair.partition(b"=") for pair in header.split(b";")]
    # White space after a name is part of it, so the name differs (RFC 6265 section 4.1.1).
    found = [(name.lstrip(b" \t"), value.rstrip(b" \t")) for name, _, value in pairs]
    return [value for name, value in found if name == NAME and value]
