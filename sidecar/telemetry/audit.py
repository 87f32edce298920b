"""The audit log: who logged in or out, was refused or ended, from where and by which means.

Every line has the same fields, empty where they do not apply, and goes to one logger, so that a
collector can keep these lines apart and for longer. Knows neither requests nor sessions.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGGER: Final = "sidecar.audit"
SUCCESS: Final = "success"

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_LONGEST: Final = 256  # characters of one value

logger = logging.getLogger(LOGGER)


class Event(StrEnum):
    """What happened, or was tried."""

    LOGIN = "login"
    REFRESH = "refresh"
    LOGOUT = "logout"
    LOGOUT_ALL = "logout_all"  # of every login of the user
    SESSION_ENDED = "session_ended"  # one login, by another one of its user or by a limit
    FORBIDDEN = "forbidden"  # a request of a known user, by a rule


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a line is about. A user is named by `issuer` and `user` together, a login by `sid`."""

    user: str = ""  # never a name that no user has: it may be a password in the wrong field
    issuer: str = ""
    sid: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an event came from: a client's address, and the id of its request."""

    client: str = ""
    request_id: str = ""


NOBODY: Final = Subject()
HERE: Final = Origin()


def audit(
    message: str,
    event: Event,
    subject: Subject = NOBODY,
    origin: Origin = HERE,
    *,
    result: str = SUCCESS,
    method: str = "",
    more: Mapping[str, object] = _NOTHING,
    warn: bool = False,
) -> None:
    """Write one line. `result` and `method` are words from enums; `more` has additional fields."""
    extra = {
        "event": str(event),
        "result": str(result),
        "user": _bounded(subject.user),
        "issuer": _bounded(subject.issuer),
        "sid": _bounded(subject.sid),
        "method": str(method),
        "client": origin.client,
        "request_id": origin.request_id,
        **more,
    }
    logger.log(logging.WARNING if warn else logging.INFO, message, extra=extra)


def _bounded(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…"
