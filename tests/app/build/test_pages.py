"""The pages that settings shape."""

from __future__ import annotations

from sidecar.app.build.pages import error_pages, login_url, make_sign_in_page
from sidecar.secret import Secret
from sidecar.settings import Settings
from sidecar.wire.replies import DETAILS

DEFAULTS = Settings(jwt_secret=Secret(""), refresh_secret=Secret(""))


def test_the_sign_in_page_has_a_place_for_each_of_its_texts() -> None:
    """Its template and `make_sign_in_page` name the same texts; otherwise this raises."""
    assert "<form" in make_sign_in_page(DEFAULTS).render(rd="/")


def test_every_error_has_a_page() -> None:
    """With a place for the request's id between its two parts."""
    pages = error_pages(DEFAULTS)
    assert pages.keys() == DETAILS.keys()
    assert all(each.before.endswith(b"<code>") for each in pages.values())


def test_where_a_browser_signs_in() -> None:
    """Nowhere without users; a configured address comes before the sidecar's own page."""
    own = Settings(jwt_secret=Secret(""), refresh_secret=Secret(""), users_file="users.toml")
    other = Settings(jwt_secret=Secret(""), refresh_secret=Secret(""), login_url="https://sso/")
    assert [login_url(each) for each in (DEFAULTS, own, other)] == [
        b"",
        b"/auth/login",
        b"https://sso/",
    ]
