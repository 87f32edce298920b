"""What a browser keeps of a session: only a login sets the cookie; a logout clears what is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web


def set_session_cookie(response: web.Response, name: str, value: str, max_age: float) -> None:
    """Give the browser its session for `max_age` seconds (`__Host-`: RFC 6265bis section 4.1.3)."""
    response.set_cookie(
        name, value, max_age=int(max_age), path="/", secure=True, httponly=True, samesite="Lax"
    )


def clear_session_cookie(response: web.Response, name: str) -> None:
    """Delete the cookie. Its attributes must be the ones that it was set with."""
    response.set_cookie(name, "", max_age=0, path="/", secure=True, httponly=True, samesite="Lax")


def clear_cache(response: web.Response) -> None:
    """Make the browser forget this origin's pages, so that its back button does not show them.

    Browsers obey only over HTTPS (and from localhost), and also clear what static files they hold.
    """
    response.headers["Clear-Site-Data"] = '"cache"'
