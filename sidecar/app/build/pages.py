"""The pages that people see: where they sign in, and what the data plane's errors look like."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from sidecar.api.pages import CONTENT_SECURITY_POLICY, SignInPage, error_page, sign_in_path
from sidecar.wire.replies import DETAILS, ReplyTemplate, page

if TYPE_CHECKING:
    from sidecar.settings import Settings

_ID: Final = "{request id}"  # marks where the request's id goes


def make_sign_in_page(settings: Settings) -> SignInPage:
    """The sign-in page: each placeholder of its template that a setting fills, with that text."""
    return SignInPage({}, settings.auth_prefix)


def login_url(settings: Settings) -> bytes:
    """Where a browser signs in: the configured page, else the sidecar's own if there are users."""
    if settings.login_url:
        return settings.login_url.encode()
    return sign_in_path(settings.auth_prefix).encode() if settings.users_file else b""


def error_pages(settings: Settings) -> dict[int, ReplyTemplate]:
    """The data plane's errors as HTML, by their status."""
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
