"""What a browser keeps of a session: only a login sets the cookie; a logout clears what is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiohttp import web

_NAME: Final = re.compile(r"(?:[a-z0-9_-]+\.)+[a-z][a-z0-9_-]*")  # no IP address
_PARENTS: Final = 5  # of a host, at most, whose cookies are cleared


@dataclass(frozen=True, slots=True)
class CookieForm:
    """The name and the attributes of the session cookie (RFC 6265bis section 4.1).

    It is always Secure and HttpOnly, for every path. Without a `domain` only the host that sets it
    gets it; the prefix `__Host-` makes browsers enforce that.
    """

    name: str
    same_site: str = "Lax"
    domain: str = ""

    @property
    def clearing(self) -> str:
        """The value of Set-Cookie that deletes it; name, domain and path are as it was set."""
        return self._line("", 0, self.domain)

    def give(self, response: web.Response, value: str, max_age: float) -> None:
        """Give the browser its session for `max_age` seconds."""
        _add(response, self._line(value, int(max_age), self.domain))

    def clear(self, response: web.Response) -> None:
        """Delete the cookie."""
        _add(response, self.clearing)

    def clear_others(self, response: web.Response, host: str) -> None:
        """Delete the cookies of this name with another Domain that reach `host`.

        They remain after the domain in the configuration was changed, or a sub-domain has set
        them, and then the browser sends two. Call this before `give`: to some browsers, a Domain
        that equals the host is no other.
        """
        if self.name.lower().startswith("__host-"):
            return
        for domain in _domains_of(host):
            if domain != self.domain:
                _add(response, self._line("", 0, domain))

    def covers(self, host: str) -> bool:
        """Whether browsers keep this cookie if this host sets it."""
        name = _without_port(host)
        return not self.domain or f".{name}".endswith(f".{self.domain}")

    def _line(self, value: str, max_age: int, domain: str) -> str:
        scope = f"; Domain={domain}" if domain else ""
        return (
            f"{self.name}={value}{scope}; HttpOnly; Max-Age={max_age}; Path=/; "
            f"SameSite={self.same_site}; Secure"
        )


def clear_cache(response: web.Response) -> None:
    """Make the browser forget this origin's pages, so that its back button does not show them.

    Browsers obey only over HTTPS (and from localhost), and also clear what static files they hold.
    """
    response.headers["Clear-Site-Data"] = '"cache"'


def _domains_of(host: str) -> list[str]:
    """Every Domain whose cookies this host gets: none (empty), its name, and those above it."""
    labels = _without_port(host).split(".")
    if not _NAME.fullmatch(".".join(labels)):
        return [""]
    longest = max(0, len(labels) - 1 - _PARENTS)
    return ["", *(".".join(labels[at:]) for at in range(longest, len(labels) - 1))]


def _without_port(host: str) -> str:
    return re.sub(r":[0-9]*\Z", "", host.lower())


def _add(response: web.Response, line: str) -> None:
    # `set_cookie` would keep only the last cookie of a name.
    response.headers.add("Set-Cookie", line)
