"""The HTML pages are accessible, need no script, and escape everything that is inserted."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.api import pages
from sidecar.api.pages import CONTENT_SECURITY_POLICY, SIGN_IN_POLICY, SignInPage, error_page
from tests.api.control_plane import sign_in_page

if TYPE_CHECKING:
    from collections.abc import Callable

NASTY = "\"><script>alert(1)</script><img src=x onerror='x'>"


class _Reader(HTMLParser):
    """An HTML parser that collects every element with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def with_id(self, name: str) -> dict[str, str | None]:
        [found] = [attributes for _, attributes in self.elements if attributes.get("id") == name]
        return found


def test_form_is_accessible() -> None:
    """Each field has a label and an autocomplete hint, and the user name has the focus."""
    page = _Reader(sign_in_page().render(rd="/x"))
    assert {label["for"] for label in page.named("label")} == {"username", "password"}
    assert page.with_id("username")["autocomplete"] == "username"
    assert page.with_id("password")["autocomplete"] == "current-password"
    assert page.with_id("password")["type"] == "password"
    assert "autofocus" in page.with_id("username")
    assert page.named("html")[0]["lang"] == "en"
    assert page.named("form")[0]["method"] == "post"
    assert {"type": "hidden", "name": "rd", "value": "/x"} in page.named("input")


def test_error_is_announced() -> None:
    """A login error is an alert that both fields reference; the password field has the focus."""
    page = _Reader(
        sign_in_page().render(rd="", error="Wrong user name or password.", username="alice")
    )
    assert page.with_id("error")["role"] == "alert"
    assert page.with_id("username")["value"] == "alice"
    assert page.with_id("password")["aria-describedby"] == "error"
    assert "autofocus" in page.with_id("password")
    assert "autofocus" not in page.with_id("username")
    assert "value" not in page.with_id("password")


def test_signed_in() -> None:
    """A signed-in user sees their name, a link to the target, and forms to sign out and in."""
    text = sign_in_page().render(rd="/x", subject="alice")
    page = _Reader(text)
    assert "Signed in as <strong>alice</strong>" in text
    assert [form["action"] for form in page.named("form")] == ["/auth/logout", "/auth/login"]
    assert page.named("a")[0]["href"] == "/x"
    assert page.named("input")[0]["value"] == "/auth/login?signed-out&rd=/x"


@pytest.mark.parametrize(
    ("status", "sign_in", "href", "text"),
    [
        pytest.param(403, "/auth/login", "/auth/login", "Go to the sign-in page", id="forbidden"),
        pytest.param(403, "", None, "", id="nowhere-to-sign-in"),
        pytest.param(413, "/auth/login", None, "", id="too-large"),
        pytest.param(408, "/auth/login", "", "Try again", id="too-slow"),
        pytest.param(502, "/auth/login", "", "Try again", id="broken"),
    ],
)
def test_an_error_leads_on(status: int, sign_in: str, href: str | None, text: str) -> None:
    """An error page links to the sign-in page or to the same address only where that may help."""
    made = error_page(status=status, title="x", detail="x", request_id="x", sign_in=sign_in)
    links = [link["href"] for link in _Reader(made).named("a")]
    assert links == ([] if href is None else [href])
    assert f">{text}</a>" in made or not links


@settings(deadline=None)
@given(st.text() | st.just(NASTY))
def test_everything_is_escaped(text: str) -> None:
    """No inserted text changes the elements of a page or the names of their attributes."""

    def shape(page: str) -> list[tuple[str, list[str]]]:
        return [(tag, list(attributes)) for tag, attributes in _Reader(page).elements]

    plain = sign_in_page().render(rd="x", error="x", notice="x", username="x", subject="x")
    made = sign_in_page().render(
        rd=f"x{text}", error=f"x{text}", notice=text or "x", username=f"x{text}", subject=f"x{text}"
    )
    assert shape(made) == shape(plain)
    made = error_page(status=400, title=text, detail=text, request_id=text)
    assert shape(made) == shape(error_page(status=400, title="x", detail="x", request_id="x"))


def source(text: str) -> str:
    """The expression in a policy that allows exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize(
    ("make", "policy"),
    [
        pytest.param(lambda: sign_in_page().render(rd="/"), SIGN_IN_POLICY, id="sign-in"),
        pytest.param(
            lambda: error_page(status=500, title="x", detail="x", request_id="x"),
            CONTENT_SECURITY_POLICY,
            id="error",
        ),
    ],
)
def test_policy_allows_just_what_the_page_has(make: Callable[[], str], policy: str) -> None:
    """The policy allows the style sheet and the script by their hashes, and nothing else."""
    page = make()
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert f"style-src {source(style)};" in policy
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert [f"script-src {source(script)}" for script in scripts] == policy.split("; ")[5:]
    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "form-action" not in policy  # it would apply to the application's own redirects too
    for tag, attributes in _Reader(page).elements:
        assert tag != "script" or not attributes
        assert not [name for name in attributes if name == "style" or name.startswith("on")]


def test_a_text_without_its_placeholder() -> None:
    """A configured text that the template does not show is a mistake, found when it starts."""
    with pytest.raises(ValueError, match=r"^sign_in\.html has no placeholder for motto$"):
        SignInPage({"motto": "x"}, "/auth")


def test_a_placeholder_without_its_text() -> None:
    """A placeholder that neither a request nor the configuration fills is a mistake as well."""
    template = pages._Template("error.html")  # noqa: SLF001
    with pytest.raises(ValueError, match=r"^error\.html gets no value for action, "):
        template.fill({"title": "x", "head": "x"})
