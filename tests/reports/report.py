"""The form of the table's rows: what a user reports, what is sent, and the right answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tests.peers.raw_client import build
from tests.reports.site import Setup, Site, token

if TYPE_CHECKING:
    from tests.peers.http_text import Fields

Play: TypeAlias = Callable[[Site], Awaitable[None]]
Wanted: TypeAlias = Mapping[str, str | None]  # header: its value, or None if it must be absent
USUAL: Final = Setup()


@dataclass(frozen=True, slots=True)
class Report:
    """One row. `play` does what the user did at a site with this setup, and asserts what is right.

    `needs` are programs besides the sidecar.
    """

    name: str
    says: str
    play: Play
    setup: Setup = USUAL
    needs: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Report {self.name}>"


@dataclass(frozen=True, slots=True)
class LoneReport:
    """A row whose `play` runs a command, or a site of its own."""

    name: str
    says: str
    play: Callable[[], Awaitable[None]]

    def __repr__(self) -> str:
        return f"<LoneReport {self.name}>"


Rows: TypeAlias = "tuple[Report | LoneReport, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its right answer; `saw` is what the application received with it.

    The bearer token has `claims` of the other issuer, or is of a login as `user`; the session
    cookie is of a login as `browser`.
    """

    target: str = "/x"
    method: str = "GET"
    lines: tuple[str, ...] = ()
    claims: Mapping[str, Any] | None = None
    user: str = ""
    browser: str = ""
    status: int = 200
    answer: Wanted = field(default_factory=dict)
    saw: Wanted = field(default_factory=dict)

    async def __call__(self, site: Site) -> None:
        """Send the request, and compare."""
        lines = list(self.lines)
        bearer = None if self.claims is None else token(**self.claims)
        if self.user:
            bearer = (await site.login(self.user))["access_token"]
        if self.browser:
            lines.append(await site.cookie(self.browser))
        before = len(site.upstream.requests)
        answer = await site.ask(build(self.method, self.target, *lines, token=bearer))
        assert answer.status == self.status, (answer.head, answer.body)
        compare(answer.fields, self.answer)
        arrived = site.upstream.requests[before:]
        assert len(arrived) == (self.status == 200), arrived
        if arrived:
            compare(arrived[0].fields, self.saw)
            assert arrived[0].target == self.target.encode()


def compare(fields: Fields, wanted: Wanted) -> None:
    """Compare the headers; several lines of one name count as a list."""
    found = {name: b", ".join(fields.all(name)).decode() for name in wanted if name in fields}
    right = {name: value for name, value in wanted.items() if value is not None}
    assert found == right
