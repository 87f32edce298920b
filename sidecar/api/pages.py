"""The HTML pages, sign-in and errors: without scripts, everything from outside escaped.

Knows no requests and no sessions; handlers pass in what is shown, unescaped.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib.resources import files
from string import Template
from typing import Final
from urllib.parse import quote

_TEMPLATES: Final = files("sidecar.api") / "templates"


def _template(name: str) -> Template:
    return Template((_TEMPLATES / name).read_text(encoding="utf-8").strip())


_STYLE: Final = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
# Our one style sheet by its hash, no script, no frame around it. No `form-action`: Chromium (156)
# holds all redirects behind a form to it: a login whose landing page is moved would be stranded.
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_PAGE: Final = _template("page.html")
_SIGN_IN: Final = _template("sign_in.html")
_SIGNED_IN: Final = _template("signed_in.html")
_ERROR: Final = _template("error.html")
_WAY: Final = Template('<a class="button quiet" href="$address">$text</a>')
_SIGN_IN_HELPS: Final = frozenset({400, 401, 403, 404, 405})  # wrong address, or wrong user


def signed_out(rd: str = "") -> str:
    """Where a logout ends unless it says otherwise: the sign-in page, on the way to `rd`."""
    return f"/auth/login?signed-out&rd={quote(rd, safe='/')}" if rd else "/auth/login?signed-out"


def sign_in_page(
    *, rd: str, error: str = "", notice: str = "", username: str = "", subject: str = ""
) -> str:
    """The sign-in form. `error` and `notice` are plain text; `subject` is already signed in."""
    message = ""
    if subject:
        message = _SIGNED_IN.substitute(
            subject=escape(subject), target=escape(rd or "/"), after=escape(signed_out(rd))
        )
    if notice:
        message += f'<p class="notice" role="status">{escape(notice)}</p>'
    if error:
        message += f'<p class="alert" role="alert" id="error">{escape(error)}</p>'
    faulty = ' aria-invalid="true" aria-describedby="error"' if error else ""
    focus = "" if subject and not error else " autofocus"
    content = _SIGN_IN.substitute(
        message=message,
        form_class="sign-in other" if subject else "sign-in",
        rd=escape(rd),
        username=escape(username),
        username_state=faulty if username else faulty + focus,
        password_state=faulty + focus if username else faulty,
    )
    window = "Error: Sign in" if error else "Sign in"
    return _PAGE.substitute(window=window, title="Sign in", style=_STYLE, content=content)


def error_page(*, status: int, title: str, detail: str, request_id: str, sign_in: str = "") -> str:
    """A page for a browser that ran into an error; all of its text is ours but the request id.

    It leads on where that may help: to the page `sign_in`, or to another try.
    """
    way = ""
    if status >= 500 or status == 408:
        way = _WAY.substitute(address="", text="Try again")  # the page's own address
    elif sign_in and status in _SIGN_IN_HELPS:
        way = _WAY.substitute(address=escape(sign_in), text="Go to the sign-in page")
    content = _ERROR.substitute(
        status=status, detail=escape(detail), way=way, request_id=escape(request_id)
    )
    heading = escape(title)
    return _PAGE.substitute(window=heading, title=heading, style=_STYLE, content=content)
