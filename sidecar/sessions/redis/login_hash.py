"""The fields of a login's hash in Redis, and their form in a listing. Pure.

Knows no commands. A hash that cannot be read, or has no valid MAC, counts as no login.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from sidecar.auth.session import SessionInfo
from sidecar.auth.value_mac import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.auth.session import Grant

    # Sign or verify a value, for this purpose and under this key: see `ValueMac`.
    Sign = Callable[[Purpose, bytes, bytes], bytes]
    Verify = Callable[[Purpose, bytes, bytes | None], bytes | None]

T = TypeVar("T", "CurrentGrant", "LoginClient")

VERSION: Final = 1

# The first grant writes `login`, and ending the login deletes it; nothing else touches it. A hash
# without this field is not a live login. Its value means nothing, because it is never signed again
# and would outlast a rotation of the secret. Each grant rewrites `current`, and `client` if its
# client is known. `seen` is only shown, and has no MAC.
LOGIN: Final = "login"
CURRENT: Final = "current"
CLIENT: Final = "client"
SEEN: Final = "seen"


class CurrentGrant(msgspec.Struct, kw_only=True):
    """The field `current`: the login, and what its last grant issued.

    `refresh` is empty for a browser session. Times are in seconds since the epoch; `created` is
    that of the login.
    """

    sub: str
    created: float
    method: str
    token: str
    refresh: str
    exp: float
    v: int = VERSION


class LoginClient(msgspec.Struct, kw_only=True):
    """The field `client`: the client of the last grant whose client is known."""

    user_agent: str
    address: str
    v: int = VERSION


_ENCODER: Final = msgspec.json.Encoder()
_CURRENTS: Final = msgspec.json.Decoder(CurrentGrant)
_CLIENTS: Final = msgspec.json.Decoder(LoginClient)


def fields_of(grant: Grant, key: bytes, now: float, until: float, sign: Sign) -> dict[str, bytes]:
    """The fields that this grant writes to the login's hash under `key`."""
    session = grant.session
    current = CurrentGrant(
        sub=session.sub,
        created=session.created,
        method=session.method,
        token=session.id,
        refresh=grant.refresh_id or "",
        exp=until,
    )
    fields = {
        CURRENT: sign(Purpose.CURRENT, key, _ENCODER.encode(current)),
        SEEN: repr(now).encode(),
    }
    if grant.replaces is None:
        fields[LOGIN] = b"live"
    if grant.user_agent or grant.address or grant.replaces is None:
        client = LoginClient(user_agent=_clean(grant.user_agent), address=_clean(grant.address))
        fields[CLIENT] = sign(Purpose.CLIENT, key, _ENCODER.encode(client))
    return fields


def current_in(stored: bytes | None, key: bytes, verify: Verify) -> CurrentGrant | None:
    """The login and what its last grant issued, from the field `current`, or None."""
    current = _decoded(_CURRENTS, verify(Purpose.CURRENT, key, stored))
    return current if current is not None and math.isfinite(current.created) else None


def info_of(
    sid: str, key: bytes, fields: Mapping[str, bytes], verify: Verify
) -> SessionInfo | None:
    """The login as a listing shows it, or None if it is not live or cannot be read."""
    current = current_in(fields.get(CURRENT), key, verify) if LOGIN in fields else None
    if current is None:
        return None
    client = _decoded(_CLIENTS, verify(Purpose.CLIENT, key, fields.get(CLIENT)))
    return SessionInfo(
        sid=sid,
        sub=current.sub,
        created=current.created,
        seen=_time(fields.get(SEEN, b""), current.created),
        exp=current.exp,
        method=current.method,
        user_agent="" if client is None else client.user_agent,
        address="" if client is None else client.address,
    )


def text_of(value: bytes) -> str:
    """A field's text. Never fails."""
    return value.decode("utf-8", "replace")


def _decoded(decoder: msgspec.json.Decoder[T], value: bytes | None) -> T | None:
    """The decoded field; None if it has another version or another shape."""
    if value is None:
        return None
    try:
        found = decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if found.v == VERSION else None


def _time(stored: bytes, otherwise: float) -> float:
    """The time in a field that carries no MAC; if it is not a time, another one."""
    try:
        time = float(stored)
    except ValueError:
        return otherwise
    return time if math.isfinite(time) else otherwise


def _clean(text: str) -> str:
    """Text that may come from a client, without what cannot be encoded."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
