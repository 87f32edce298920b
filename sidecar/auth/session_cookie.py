"""The line that makes a browser delete its session cookie. Pure."""

from __future__ import annotations


def clearing_line(name: bytes) -> bytes:
    """Return the Set-Cookie line (RFC 6265 section 4.1) that deletes the session cookie `name`.

    Its attributes are those that the cookie was set with: a browser ignores one of a `__Host-`
    cookie that lacks any of them.
    """
    return b"Set-Cookie: %b=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax\r\n" % name
