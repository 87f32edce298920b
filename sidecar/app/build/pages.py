"""Where people are sent, and the pages they see when the data plane answers with an error."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from sidecar.api.pages import CONTENT_SECURITY_POLICY, error_page
from sidecar.wire.replies import DETAILS, ReplyTemplate, page

if TYPE_CHECKING:
    from sidecar.settings import Settings

_ID: Final = "{request id}"  # its place in a page


def login_url(settings: Settings) -> bytes:
    """Where a browser signs in: a page of another, our own if there are users, or nowhere."""
    if settings.login_url:
        return settings.login_url.encode()
    return b"/auth/login" if settings.users_file else b""


def error_pages(settings: Settings) -> dict[int, ReplyTemplate]:
    """The errors of the data plane for a person, by their status."""
    sign_in = login_url(settings).decode()
    return {status: _error_page(status, sign_in) for status in DETAILS}


def _error_page(status: int, sign_in: str) -> ReplyTemplate:
    text = error_page(
        status=status,
        title=HTTPStatus(status).phrase,
        detail=DETAILS[status],
        request_id=_ID,
        sign_in=sign_in,
    )
    before, _, after = text.partition(_ID)
    return page(status, before, after, CONTENT_SECURITY_POLICY)
