"""The fields of a login's hash in Redis, and their form in a listing. Pure.

Knows no commands. A hash that cannot be read, or has no valid MAC, counts as no login.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from sidecar.auth.session import FOREVER, SessionInfo
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
# and would outlast a rotation of the secret. Each grant has a field of its own, `current:` with its
# generation, which only the first write of this generation can set; the highest counts, and lower
# ones are removed. So a late write cannot undo a later one. Each grant rewrites `client` if its
# client is known. `seen` is only shown, and has no MAC.
LOGIN: Final = "login"
_CURRENT: Final = "current:"
CLIENT: Final = "client"
SEEN: Final = "seen"


class CurrentGrant(msgspec.Struct, kw_only=True):
    """A field `current:<generation>`: the login, and what this grant issued.

    `refresh` is empty for a browser session. `before` is the token that it replaced, if that still
    counted for a while: a logout must find it. Times are in seconds since the epoch; `created` is
    that of the login.
    """

    sub: str
    created: float
    method: str
    token: str
    refresh: str
    exp: float
    generation: int = 0
    before: str = ""
    v: int = VERSION

    @property
    def tokens(self) -> list[str]:
        """The ids of the tokens that may count."""
        return [self.token, self.before] if self.before else [self.token]


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
        generation=grant.generation,
        before="" if (replaced := grant.replaced(now)) is None else replaced.id,
    )
    fields = {
        current_field(grant.generation): sign(Purpose.CURRENT, key, _ENCODER.encode(current)),
        SEEN: repr(now).encode(),
    }
    if grant.replaces is None:
        fields[LOGIN] = b"live"
    if grant.user_agent or grant.address or grant.replaces is None:
        client = LoginClient(user_agent=_clean(grant.user_agent), address=_clean(grant.address))
        fields[CLIENT] = sign(Purpose.CLIENT, key, _ENCODER.encode(client))
    return fields


def current_field(generation: int) -> str:
    """The name of the field of the grant with this generation."""
    return f"{_CURRENT}{generation}"


def grants_in(fields: Mapping[str, bytes], key: bytes, verify: Verify) -> list[CurrentGrant]:
    """What grants of a login issued, that of the highest generation first; usually only one."""
    found = (
        _decoded(_CURRENTS, verify(Purpose.CURRENT, key, stored))
        for name, stored in fields.items()
        if name.startswith(_CURRENT)
    )
    grants = [each for each in found if each is not None and math.isfinite(each.created)]
    return sorted(grants, key=lambda each: each.generation, reverse=True)


def live_grant_in(fields: Mapping[str, bytes], key: bytes, verify: Verify) -> CurrentGrant | None:
    """What the last grant of a login issued. None if the login is not live."""
    grants = grants_in(fields, key, verify) if LOGIN in fields else []
    return grants[0] if grants else None


def info_of(
    sid: str, key: bytes, fields: Mapping[str, bytes], verify: Verify
) -> SessionInfo | None:
    """The login as a listing shows it, or None if it is not live or cannot be read."""
    current = live_grant_in(fields, key, verify)
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
    return time if 0.0 <= time <= FOREVER else otherwise


def _clean(text: str) -> str:
    """Text that may come from a client, without what cannot be encoded."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
