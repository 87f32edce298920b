"""How a refusal is answered: its status, headers and form, and whether a person is sent to log in.

Owns what a refused client sees; the decision itself is the gate's. Everything here is a function of
the request, the routes and prepared bytes.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from sidecar.auth.credentials import Accepts
from sidecar.wire.replies import DOCUMENTS, RETRY_AFTER, ReplyTemplate, document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.decision import Deny
    from sidecar.auth.routes import RouteTable
    from sidecar.errors import Malformed
    from sidecar.proxy.verify import Dialect
    from sidecar.wire.forwarded import Forwarding
    from sidecar.wire.head import RequestHead

# Characters of a target that mean themselves in the value of a query (RFC 3986 section 3.4)
_UNESCAPED: Final = "/?:@!$'()*,;"
_LINK: Final = b'href="/'
_FETCH_MODE: Final = b"\nsec-fetch-mode:"
_ACCEPT: Final = b"\naccept:"
_REQUEST_LINE: Final = 64  # octets of a request beside its target and its header lines, at most


def answer_to(
    deny: Deny,
    asked: RequestHead | None,
    dialect: Dialect | None,
    forwarding: Forwarding,
    *,
    login_url: bytes,
    routes: RouteTable,
    limit: int,
) -> tuple[int, bytes]:
    """The status of the answer to a denied request, and the header lines that it needs.

    `asked` is the request that was denied: behind another proxy the original one, None if the proxy
    named none. 302 stands for a redirect to the login page. `login_url` is empty without one.
    `routes` say which requests a login can help. `limit` is the largest request head in octets.
    """
    status = deny.reason.status
    lines = b"WWW-Authenticate: %b\r\n" % deny.challenge if deny.challenge else b""
    if dialect is not None:
        status = dialect.statuses.get(status, status)
    if status == 401 and login_url and asked is not None:
        if dialect is not None and not dialect.redirects:
            if _takes_cookie(routes, asked):
                prefix = forwarding.prefix(asked)
                lines += login_location(login_url, asked, limit, prefix=prefix)
        elif is_navigation(asked) and _takes_cookie(routes, asked):
            prefix = forwarding.prefix(asked)
            origin = forwarding.origin(asked) if dialect is not None and dialect.absolute else b""
            return 302, lines + login_location(login_url, asked, limit, origin, prefix=prefix)
    # A proxy that takes no 503 gets another status; Retry-After then tells it of the outage.
    return status, lines + (RETRY_AFTER if deny.reason.status == 503 else b"")


def login_location(
    login_url: bytes, asked: RequestHead, limit: int, origin: bytes = b"", *, prefix: bytes = b""
) -> bytes:
    """The Location line that leads to the login page and back to what was `asked` afterwards.

    The target is escaped here because nginx does not escape `$request_uri`: a redirect built from
    that breaks on query strings. Escaping triples some octets. The way back is left out if the
    request for the login page would exceed `limit`. `origin` is put in front of a login page that
    is only a path, because some proxies would complete it with the sidecar's address. `prefix` is
    what a proxy has removed from the client's path; it is the same for the login page.
    """
    mark = b"&" if b"?" in login_url else b"?"
    start = origin + prefix + login_url if login_url[:1] == b"/" else login_url
    back = quote(prefix + asked.target, safe=_UNESCAPED).encode()
    if len(start) + len(back) + len(asked.lines) > limit - _REQUEST_LINE:
        return b"Location: %b\r\n" % start
    return b"Location: %b%brd=%b\r\n" % (start, mark, back)


def _takes_cookie(routes: RouteTable, asked: RequestHead) -> bool:
    """Whether signing in, which gives a cookie, helps: not on a route of bearer tokens."""
    route = routes.match(asked.method, asked.host, asked.path)
    return route.credentials is not Accepts.BEARER


def forms_for(
    asked: RequestHead,
    pages: Mapping[int, ReplyTemplate],
    forwarding: Forwarding,
    status: int,
    malformed: Malformed | None = None,
) -> Mapping[int, ReplyTemplate]:
    """The form of an error's answer: a page for a person, a problem document for a program.

    The document of a malformed request has the reason. A limit that was exceeded is not named:
    what it protects is nobody else's business.
    """
    if shows_page(asked):
        return page_for(pages, status, forwarding.prefix(asked))
    return DOCUMENTS if malformed is None else {status: document(status, malformed)}


def page_for(
    pages: Mapping[int, ReplyTemplate], status: int, prefix: bytes
) -> Mapping[int, ReplyTemplate]:
    """The page for this status; its link to the login page begins with what proxies remove."""
    page = pages[status]
    if not prefix or _LINK not in page.before + page.after:
        return pages
    link = _LINK.replace(b"/", escape(prefix.decode("latin-1")).encode("latin-1") + b"/")
    before, after = page.before.replace(_LINK, link), page.after.replace(_LINK, link)
    return {status: ReplyTemplate(page.start, before, after)}


def is_navigation(head: RequestHead) -> bool:
    """Whether a person opens a page, so that a redirect can bring them to it again."""
    return head.method in {b"GET", b"HEAD"} and shows_page(head)


def shows_page(head: RequestHead) -> bool:
    """Whether a person will see the answer: Sec-Fetch-Mode says so, else Accept asks for HTML."""
    known = head.shows_page
    if known is None:
        known = head.shows_page = _asks_for_page(head.lines)
    return known


def _asks_for_page(lines: bytes) -> bool:
    # Without splitting: most of the 20 lines that a browser sends are of no interest here.
    lines = b"\n" + lines
    folded = lines.lower()
    at = folded.find(_FETCH_MODE)
    if at >= 0:
        begin = at + len(_FETCH_MODE)
        return lines[begin : lines.find(b"\n", begin)].strip() == b"navigate"
    at = folded.rfind(_ACCEPT)
    return at >= 0 and folded.find(b"text/html", at, folded.find(b"\n", at + 1)) >= 0
