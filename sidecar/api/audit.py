"""The caller of a request to the control plane, as the audit log and the access log name them.

A handler calls `identify` once, as soon as it knows the caller. Decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.api.problems import CALLER, request_id
from sidecar.api.requests import client_of
from sidecar.telemetry.audit import NOBODY, SUCCESS, Origin, Subject, audit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from sidecar.telemetry.audit import Event

_NO_FIELDS: Final[Mapping[str, object]] = {}


def identify(request: web.Request, user: str, *, issuer: str = "", sid: str = "") -> None:
    """Note that the request is of this user and login. Both must have been verified."""
    request[CALLER] = Subject(user, issuer, sid)


def audit_request(
    request: web.Request,
    message: str,
    event: Event,
    subject: Subject | None = None,
    *,
    result: str = SUCCESS,
    method: str = "",
    more: Mapping[str, object] = _NO_FIELDS,
    warn: bool = False,
) -> None:
    """Write an audit line about this request; `subject` is its caller unless another is given."""
    audit(
        message,
        event,
        request.get(CALLER, NOBODY) if subject is None else subject,
        Origin(client_of(request).address, request_id(request)),
        result=result,
        method=method,
        more=more,
        warn=warn,
    )
