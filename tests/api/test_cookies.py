"""The attributes of the session cookie, and how cookies with another Domain are removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import web

from sidecar.api.cookies import CookieForm
from sidecar.auth.session import token_id
from tests.api.control_plane import BROWSER

if TYPE_CHECKING:
    from tests.api.control_plane import Api, Starter

NAME: Final = "__Secure-session"
WIDE: Final = CookieForm(NAME, "None", "example")
NARROW: Final = CookieForm(NAME, "Strict")


@pytest.mark.parametrize(
    ("form", "attributes"),
    [
        pytest.param(
            CookieForm("__Host-session"),
            "; HttpOnly; Max-Age={}; Path=/; SameSite=Lax; Secure",
            id="default",
        ),
        pytest.param(
            CookieForm("s", "Strict", "example.com"),
            "; Domain=example.com; HttpOnly; Max-Age={}; Path=/; SameSite=Strict; Secure",
            id="domain",
        ),
        pytest.param(
            CookieForm("s", "None"),
            "; HttpOnly; Max-Age={}; Path=/; SameSite=None; Secure",
            id="none",
        ),
    ],
)
def test_it_is_cleared_as_it_was_set(form: CookieForm, attributes: str) -> None:
    """Both lines have the same attributes: browsers compare name, domain and path."""
    response = web.Response()
    form.give(response, "abc", 900.9)
    form.clear(response)
    assert response.headers.getall("Set-Cookie") == [
        f"{form.name}=abc{attributes.format(900)}",
        f"{form.name}={attributes.format(0)}",
    ]


ABOVE: Final = ["a.b.example.com", "b.example.com", "example.com"]


@pytest.mark.parametrize(
    ("form", "host", "domains"),
    [
        pytest.param(CookieForm("s"), "a.b.example.com:8443", ABOVE, id="own-host-and-above"),
        pytest.param(CookieForm("s"), "A.B.Example.com", ABOVE, id="upper-case"),
        pytest.param(
            CookieForm("s", domain="example.com"),
            "b.example.com",
            ["", "b.example.com"],
            id="another-domain-in-use",
        ),
        pytest.param(CookieForm("s"), "localhost:5005", [], id="one-label"),
        pytest.param(CookieForm("s"), "192.0.2.7:80", [], id="ipv4"),
        pytest.param(CookieForm("s"), "[2001:db8::1]:80", [], id="ipv6"),
        pytest.param(CookieForm("s"), "", [], id="no-host"),
        pytest.param(CookieForm("s"), "a.example.com; Path=/x", [], id="no-host-name"),
        pytest.param(CookieForm("__Host-s"), "a.example.com", [], id="bound-to-its-host"),
        pytest.param(CookieForm("__HOST-s"), "a.example.com", [], id="bound-in-any-case"),
    ],
)
def test_other_domains(form: CookieForm, host: str, domains: list[str]) -> None:
    """Every Domain that browsers send to this host is cleared, except the one in use."""
    response = web.Response()
    form.clear_others(response, host)
    lines = response.headers.getall("Set-Cookie", [])
    assert [line.partition("Domain=")[2].partition(";")[0] for line in lines] == domains


def test_the_domains_of_a_long_host_are_bounded() -> None:
    """A host of very many labels does not make the answer grow with it."""
    response = web.Response()
    CookieForm("s").clear_others(response, "a." * 500 + "example.com")
    assert len(response.headers.getall("Set-Cookie")) == 5


@pytest.mark.parametrize(
    ("domain", "host", "kept"),
    [
        pytest.param("", "anything", True, id="no-domain"),
        pytest.param("example.com", "example.com", True, id="itself"),
        pytest.param("example.com", "A.Example.com:8443", True, id="below"),
        pytest.param("example.com", "notexample.com", False, id="suffix"),
        pytest.param("example.com", "example.org", False, id="elsewhere"),
        pytest.param("a.example.com", "example.com", False, id="above"),
    ],
)
def test_covers(domain: str, host: str, kept: bool) -> None:  # noqa: FBT001
    """Browsers keep a cookie whose Domain is the host that sets it, or above it."""
    assert CookieForm("s", domain=domain).covers(host) is kept


async def log_in(api: Api, cookies: str) -> list[str]:
    """Log in with the form, with these cookies; return the lines that set cookies."""
    form = {"username": "alice", "password": "pw-alice"}
    answer = await api.client.post(
        "/auth/login", data=form, headers={**BROWSER, "Cookie": cookies}, allow_redirects=False
    )
    assert answer.status == 303
    return answer.headers.getall("Set-Cookie")


@pytest.mark.parametrize("form", [WIDE, NARROW])
async def test_two_cookies_lock_nobody_out(start: Starter, form: CookieForm) -> None:
    """With two session cookies nobody is signed in; a login replaces both and ends their logins."""
    api = await start(session_cookie=form)
    (first,), (second,) = await log_in(api, "a=b"), await log_in(api, "a=b")
    values = [each.partition(";")[0].partition("=")[2] for each in (first, second)]
    both = "; ".join(f"{NAME}={value}" for value in values)
    answer = await api.client.get("/auth/userinfo", headers={**BROWSER, "Cookie": both})
    assert (answer.status, "Set-Cookie" in answer.headers) == (401, False)
    page = await api.client.get("/auth/login", headers={**BROWSER, "Cookie": both})
    assert page.status == 200
    *cleared, given = await log_in(api, both)
    assert "Max-Age=0" not in given
    assert all(f"{NAME}=;" in each or f"{NAME}=; " in each for each in cleared)
    other = "Domain=app.example" if form is NARROW else f"{NAME}=; HttpOnly"
    assert [each for each in cleared if other in each]
    for value in values:
        assert await api.store.get(token_id(value.encode())) is None


@pytest.mark.parametrize("kind", ["form", "script"])
async def test_a_logout_with_two_cookies(start: Starter, kind: str) -> None:
    """A logout ends the logins of both cookies, and clears both."""
    api = await start(session_cookie=WIDE)
    lines = [(await log_in(api, "a=b"))[0] for _ in range(2)]
    values = [each.partition(";")[0].partition("=")[2] for each in lines]
    headers = {**BROWSER, "Cookie": "; ".join(f"{NAME}={value}" for value in values)}
    data = {"rd": "/"} if kind == "form" else None
    answer = await api.client.post(
        "/auth/logout", data=data, headers=headers, allow_redirects=False
    )
    assert answer.status == (303 if kind == "form" else 204)
    cleared = answer.headers.getall("Set-Cookie")
    assert len(cleared) == 3  # of the domain, of the host alone, and of the host with what is below
    assert all("Max-Age=0" in each for each in cleared)
    for value in values:
        assert await api.store.get(token_id(value.encode())) is None


async def test_a_forged_logout_with_two_cookies(start: Starter) -> None:
    """Another site's page ends neither login."""
    api = await start(session_cookie=WIDE)
    line = (await log_in(api, "a=b"))[0].partition(";")[0]
    headers = {**BROWSER, "Origin": "https://evil.example", "Cookie": f"{line}; {NAME}=x"}
    assert (await api.client.post("/auth/logout", headers=headers)).status == 403
    assert await api.store.get(token_id(line.partition("=")[2].encode())) is not None


async def test_many_cookies_end_few_logins(start: Starter) -> None:
    """A request with hundreds of session cookies does not cause as much work."""
    api = await start(session_cookie=WIDE)
    line = (await log_in(api, "a=b"))[0].partition(";")[0]
    many = "; ".join([*(f"{NAME}=x{number}" for number in range(200)), line])
    answer = await api.client.post("/auth/logout", headers={**BROWSER, "Cookie": many})
    assert answer.status == 204
    assert await api.store.get(token_id(line.partition("=")[2].encode())) is not None


async def test_the_page_says_that_the_cookie_does_not_belong_here(start: Starter) -> None:
    """At a host outside the cookie's domain, the sign-in page says why signing in fails."""
    api = await start(session_cookie=CookieForm("s", domain="example.org"))
    text = await (await api.client.get("/auth/login", headers=BROWSER)).text()
    assert "Open it under example.org instead." in text
    inside = {**BROWSER, "X-Forwarded-Host": "app.example.org"}
    assert "instead" not in await (await api.client.get("/auth/login", headers=inside)).text()


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        pytest.param("https://app.example", 204, id="own"),
        pytest.param("https://other.example", 403, id="other"),
        pytest.param("null", 403, id="null"),
        pytest.param("", 403, id="none"),
    ],
)
async def test_forgery_with_a_cookie_of_every_site(
    start: Starter, origin: str, status: int
) -> None:
    """A cookie that browsers send from every site changes nothing about who may log users out."""
    api = await start(session_cookie=WIDE)
    line = (await log_in(api, "a=b"))[0].partition(";")[0]
    headers = {**BROWSER, "Origin": origin, "Cookie": line}
    if not origin:
        del headers["Origin"]
    assert (await api.client.post("/auth/logout", headers=headers)).status == status
