"""The HTML pages: sign-in and errors. Every value is escaped.

The sign-in page works without scripts. Its one script keeps the `#fragment` of the address to which
the user returns, which browsers do not send.

Knows no requests and no sessions. Handlers pass plain text; a value without a placeholder, or a
placeholder without a value, raises ValueError.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

_FOLDER: Final = files("sidecar.api") / "templates"


class _Template:
    """A template file, which is filled with exactly the values that it has placeholders for."""

    __slots__ = ("_name", "_placeholders", "_template")

    def __init__(self, name: str) -> None:
        self._name = name
        self._template = Template((_FOLDER / name).read_text(encoding="utf-8").strip())
        self._placeholders = frozenset(self._template.get_identifiers())

    def __repr__(self) -> str:
        return f"<_Template {self._name}>"

    def fill(self, values: Mapping[str, str]) -> str:
        """The template with these values, which must be escaped already. Raises ValueError."""
        if extra := values.keys() - self._placeholders:
            raise ValueError(f"{self._name} has no placeholder for {', '.join(sorted(extra))}")
        if missing := self._placeholders - values.keys():
            raise ValueError(f"{self._name} gets no value for {', '.join(sorted(missing))}")
        return self._template.substitute(values)


_STYLE: Final = (_FOLDER / "style.css").read_text(encoding="utf-8")
_SCRIPT: Final = (_FOLDER / "fragment.js").read_text(encoding="utf-8")


def _source(text: str) -> str:
    """The source expression that allows exactly this style sheet or script (CSP 3)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# The only style sheet is allowed by its hash; scripts and frames are not. There is no
# `form-action`: Chromium (156) applies it to every redirect that follows a form, so a login whose
# landing page has moved would fail.
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src {_source(_STYLE)}; img-src data:; base-uri 'none'; "
    "frame-ancestors 'none'"
)
SIGN_IN_POLICY: Final = f"{CONTENT_SECURITY_POLICY}; script-src {_source(_SCRIPT)}"
_HEAD: Final = _Template("head.html").fill({"style": _STYLE})
_SIGN_IN: Final = _Template("sign_in.html")
_SIGNED_IN: Final = _Template("signed_in.html")
_ERROR: Final = _Template("error.html")
# Statuses for which another address or another user may help.
_SIGN_IN_HELPS: Final = frozenset({400, 401, 403, 404, 405, 409})


def sign_in_path(prefix: str) -> str:
    """The path of the sign-in page, below the prefix of the sidecar's own addresses."""
    return f"{prefix}/login"


class SignInPage:
    """The sign-in page with the texts that the configuration gives it.

    `texts` maps placeholders of `sign_in.html` to plain text, which is escaped once, here. Raises
    ValueError unless the names are exactly the placeholders that `render` does not fill itself.
    `prefix` is that of the sidecar's own addresses.
    """

    __slots__ = ("_log_in", "_log_out", "_texts")

    def __init__(self, texts: Mapping[str, str], prefix: str) -> None:
        self._log_in, self._log_out = sign_in_path(prefix), f"{prefix}/logout"
        self._texts = {name: escape(text) for name, text in texts.items()}
        # Fill every template once: a mistake shows now and not at the first request.
        self.render(rd="/", error="error", notice="notice", username="user", subject="user")

    def __repr__(self) -> str:
        return f"<SignInPage {self._log_in} with {len(self._texts)} configured texts>"

    def signed_out(self, rd: str = "", prefix: str = "") -> str:
        """The page's address after a logout; a login from there leads to `rd`.

        `prefix` is what proxies remove from the start of the path.
        """
        address = f"{prefix}{self._log_in}?signed-out"
        return f"{address}&rd={quote(rd, safe='/')}" if rd else address

    def render(
        self,
        *,
        rd: str,
        error: str = "",
        notice: str = "",
        username: str = "",
        subject: str = "",
        prefix: str = "",
    ) -> str:
        """The page. `error` and `notice` are messages; `subject` is who is signed in already.

        `prefix` is what proxies remove from the start of the path.
        """
        message = ""
        rd = rd or (f"{prefix}/" if prefix else "")
        if subject:
            message = _SIGNED_IN.fill(
                {
                    "subject": escape(subject),
                    "target": escape(rd or "/"),
                    "log_out": escape(f"{prefix}{self._log_out}"),
                    "after": escape(self.signed_out(rd, prefix)),
                }
            )
        if notice:
            message += f'<p class="notice" role="status">{escape(notice)}</p>'
        if error:
            message += f'<p class="alert" role="alert" id="error">{escape(error)}</p>'
        invalid = ' aria-invalid="true" aria-describedby="error"' if error else ""
        focus = "" if subject and not error else " autofocus"
        return _SIGN_IN.fill(
            {
                **self._texts,
                "head": _HEAD,
                "script": _SCRIPT,
                "action": escape(f"{prefix}{self._log_in}"),
                "state": "Error: " if error else "",
                "message": message,
                "form_class": "sign-in other" if subject else "sign-in",
                "rd": escape(rd),
                "username": escape(username),
                "username_state": invalid if username else invalid + focus,
                "password_state": invalid + focus if username else invalid,
            }
        )


def error_page(*, status: int, title: str, detail: str, request_id: str, sign_in: str = "") -> str:
    """The page for a browser whose request failed.

    Where that may help, a button leads to the address `sign_in`, or repeats the request.
    """
    action = ""
    if status >= 500 or status == 408:
        action = _button("", "Try again")  # an empty address is the page's own
    elif sign_in and status in _SIGN_IN_HELPS:
        action = _button(sign_in, "Go to the sign-in page")
    return _ERROR.fill(
        {
            "head": _HEAD,
            "title": escape(title),
            "detail": escape(detail),
            "action": action,
            "status": str(status),
            "request_id": escape(request_id),
        }
    )


def _button(address: str, text: str) -> str:
    return f'<a class="button quiet" href="{escape(address)}">{escape(text)}</a>'
