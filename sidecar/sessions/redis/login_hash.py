"""The fields of a login's hash in Redis, and their form in a listing. Pure.

Knows no commands. A hash that cannot be read counts as no login.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.auth.session import SessionInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.session import Grant

# The first grant writes `created`, and ending the login deletes it; nothing else touches it. A hash
# without this field is not a live login.
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
    """The fields that this grant writes. A grant that begins the login writes all of them."""
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
    """The login as a listing shows it, or None if a field is missing or unreadable."""
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


def began_before(created: object, time: float) -> bool:
    """Whether a login with this `created` field began before `time`. True if it is unreadable."""
    try:
        return not isinstance(created, bytes) or float(created) < time
    except ValueError:
        return True


def text_of(value: bytes) -> str:
    """A field's text. Never fails."""
    return value.decode("utf-8", "replace")


def _octets(text: str) -> bytes:
    """Encode text that may come from a client. Never fails."""
    return text.encode("utf-8", "surrogatepass")
