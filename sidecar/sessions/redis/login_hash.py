"""A login's hash in Redis: what stands in its fields, and how a listing shows it. Pure.

Knows no commands. What cannot be read is no login.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.auth.session import SessionInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.session import Grant

# `created` stands there from the first grant until the login is ended, and is written by nothing
# else: a hash without it is no live login.
CREATED: Final = "created"
TOKEN: Final = "token"
REFRESH: Final = "refresh"
SUB: Final = "sub"
SEEN: Final = "seen"
EXP: Final = "exp"
METHOD: Final = "method"
USER_AGENT: Final = "user_agent"
ADDRESS: Final = "address"


def fields_of(grant: Grant, now: float, until: float) -> dict[str, str | bytes]:
    """The fields that this grant writes: all of them if it begins the login."""
    session = grant.session
    fields: dict[str, str | bytes] = {
        TOKEN: _octets(session.id),
        REFRESH: grant.refresh_id or "",
        SEEN: repr(now),
        EXP: repr(until),
    }
    if grant.replaces is None:
        fields |= {
            CREATED: repr(session.created),
            SUB: _octets(session.sub),
            METHOD: session.method,
        }
    if grant.user_agent or grant.replaces is None:
        fields[USER_AGENT] = _octets(grant.user_agent)
    if grant.address or grant.replaces is None:
        fields[ADDRESS] = _octets(grant.address)
    return fields


def info_of(sid: str, fields: Mapping[str, bytes]) -> SessionInfo | None:
    """How a listing shows it."""
    try:
        return SessionInfo(
            sid=sid,
            sub=text_of(fields[SUB]),
            created=float(fields[CREATED]),
            seen=float(fields[SEEN]),
            exp=float(fields[EXP]),
            method=text_of(fields[METHOD]),
            user_agent=text_of(fields.get(USER_AGENT, b"")),
            address=text_of(fields.get(ADDRESS, b"")),
        )
    except (KeyError, ValueError):
        return None


def began_before(created: object, moment: float) -> bool:
    """Whether a login with this field began before; one that does not say when did."""
    try:
        return not isinstance(created, bytes) or float(created) < moment
    except ValueError:
        return True


def text_of(value: bytes) -> str:
    """A field's text. Never fails."""
    return value.decode("utf-8", "replace")


def _octets(text: str) -> bytes:
    """What a client may have made up is written as it is."""
    return text.encode("utf-8", "surrogatepass")
