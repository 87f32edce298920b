"""With another AUTH_PREFIX everything of the sidecar is there, and nothing of it at /auth."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import sidecar
from sidecar.errors import ConfigError
from sidecar.settings import DEFAULT_PREFIX
from tests.peers.raw_client import build
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import Stack, configure, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.raw_client import Response

PACKAGE: Final = Path(sidecar.__file__).parent
PREFIXES: Final = ("/auth", "/_sign-in", "/internal/a.b~c")
NAVIGATION: Final = ("Sec-Fetch-Mode: navigate", "Accept: text/html")
ORIGIN: Final = "Origin: http://sidecar.test"
FORM: Final = "Content-Type: application/x-www-form-urlencoded"
ADDRESS: Final = re.compile(r'(?:href|action|src)="([^"#]+)"')
DIALECTS: Final = ("nginx", "traefik", "caddy", "envoy", "haproxy")


def prefixed(upstream: ScriptedUpstream, prefix: str, **settings: Any) -> Any:
    """Run a sidecar with this prefix; below another one, /auth/open/* is a public application."""
    routes = [] if prefix == "/auth" else [{"path": "/auth/open/*", "access": "public"}]
    settings = {"auth_prefix": prefix, "routes": routes, **settings}
    return stack(upstream.url, trusted_proxies=["127.0.0.0/8"], **settings)


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """The application."""
    async with ScriptedUpstream() as running:
        yield running


@pytest.fixture(params=PREFIXES)
async def moved(upstream: ScriptedUpstream, request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    """A sidecar with one of the prefixes."""
    async with prefixed(upstream, request.param) as running:
        yield running


def addresses(answer: Response) -> list[str]:
    """Every address that a page leads to, apart from those of the application."""
    found = [each for each in ADDRESS.findall(answer.body.decode()) if not each.startswith("data:")]
    return [each for each in found if each not in {"/", "/app"}]


def endpoints(running: Stack) -> set[tuple[str, str]]:
    """The method and path of every route of the control plane."""
    api = running.sidecar._api  # noqa: SLF001 (no other place knows all of them)
    assert api is not None
    return {
        (route.method, route.resource.canonical.replace("{sid}", "x"))
        for route in api.app.router.routes()
        if route.resource is not None
    }


async def test_every_endpoint_is_below_the_prefix(moved: Stack, upstream: ScriptedUpstream) -> None:
    """The control plane answers there and only there; what it serves elsewhere has no prefix."""
    found = endpoints(moved)
    assert len(found) >= 10
    for method, path in sorted(found):
        keys = path == "/.well-known/jwks.json"
        assert path.startswith(f"{moved.auth}/") or keys
        answer = await moved.ask(build(method, path, ORIGIN, body=b"{}"))
        assert (answer.status == 404) is keys, (method, path)
        assert answer.fields.one("server") == b"sidecar"
    assert upstream.requests == []
    assert (await moved.get(f"{moved.auth}/nothing")).status == 404
    assert (await moved.get(moved.auth)).status == 404


async def test_the_default_paths_are_the_applications(upstream: ScriptedUpstream) -> None:
    """They fall under the rules of the application, and reach it with the caller's identity."""
    async with prefixed(upstream, "/_sign-in") as moved:
        tokens = await moved.login()
        paths = [path.replace(moved.auth, "/auth", 1) for _, path in sorted(endpoints(moved))]
        paths = [path for path in paths if path.startswith("/auth/")]
        for path in ("/auth", *paths, "/auth/verify", "/auth/verify/envoy/x"):
            assert (await moved.get(path, "X-Original-URI: /auth/open/x")).status == 401
            assert upstream.requests == []
            assert (await moved.get(path, token=tokens.access)).status == 200
            assert upstream.requests.pop().fields.one("x-auth-user") == b"alice"
        assert (await moved.get("/auth/open/login")).status == 200


async def test_signing_in(moved: Stack) -> None:
    """A browser is sent to the page below the prefix; every address of the pages is there."""
    sent = await moved.get("/app", *NAVIGATION)
    assert sent.status == 302
    assert sent.fields.one("location").decode() == f"{moved.auth}/login?rd=/app"
    page = await moved.get(f"{moved.auth}/login?rd=/app", *NAVIGATION)
    assert addresses(page) == [f"{moved.auth}/login"]
    body = b"username=alice&password=pw-alice&rd=/app"
    answer = await moved.ask(build("POST", f"{moved.auth}/login", ORIGIN, FORM, body=body))
    assert (answer.status, answer.fields.one("location")) == (303, b"/app")
    assert b"; Path=/;" in answer.fields.one("set-cookie") + b";"
    cookie = "Cookie: " + answer.fields.one("set-cookie").decode().partition(";")[0]
    assert (await moved.get("/app", cookie)).status == 200
    page = await moved.get(f"{moved.auth}/login?rd=/app", cookie)
    assert addresses(page) == [f"{moved.auth}/logout", f"{moved.auth}/login"]
    hidden = re.search(r'name="rd" value="([^"]*)"', page.body.decode())
    assert hidden is not None
    assert hidden[1] == f"{moved.auth}/login?signed-out&amp;rd=/app"
    gone = await moved.ask(build("POST", f"{moved.auth}/logout", ORIGIN, FORM, cookie, body=b""))
    assert gone.status == 303
    assert gone.fields.one("location").decode() == f"{moved.auth}/login?signed-out"
    assert (await moved.get("/app", cookie)).status == 401


async def test_error_pages(moved: Stack) -> None:
    """Those of both planes lead to the sign-in page."""
    lines = ("Accept: text/html", "Sec-Fetch-Mode: navigate")
    for answer in (
        await moved.ask(build("POST", "/app", *lines, body=b"")),
        await moved.get(f"{moved.auth}/nothing", *lines),
    ):
        assert answer.status in {401, 404}
        assert addresses(answer) == [f"{moved.auth}/login"]


async def test_tokens(moved: Stack) -> None:
    """Login, refresh, list and logout of a program work below the prefix."""
    tokens = await moved.login()
    body = f'{{"refresh_token": "{tokens.refresh}"}}'.encode()
    json = "Content-Type: application/json"
    answer = await moved.ask(build("POST", f"{moved.auth}/refresh", json, body=body))
    token = answer.json()["access_token"]
    listed = await moved.get(f"{moved.auth}/sessions", token=token)
    [session] = listed.json()["sessions"]
    ending = build("DELETE", f"{moved.auth}/sessions/{session['sid']}", token=token)
    assert (await moved.ask(ending)).status == 204
    assert (await moved.get(f"{moved.auth}/userinfo", token=token)).status == 401


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_subrequests(moved: Stack, dialect: str) -> None:
    """Proxies ask below the prefix, about the application's paths below /auth as well."""
    token = (await moved.login()).access
    verify = f"{moved.auth}/verify/{dialect}"
    for uri, open_ in (("/auth/open/x", moved.auth != "/auth"), ("/auth/login", False)):
        said = {
            "nginx": (f"X-Original-URI: {uri}",),
            "envoy": (),
        }.get(
            dialect, (f"X-Forwarded-Uri: {uri}", "X-Forwarded-Method: GET", "X-Forwarded-Host: x")
        )
        target = verify + uri if dialect == "envoy" else verify
        assert (await moved.get(target, *said)).status == (200 if open_ else 401)
        answer = await moved.get(target, *said, token=token)
        assert answer.status == 200
        assert answer.fields.one("x-auth-user") == (b"" if open_ else b"alice")
        away = await moved.get(target, *said, *NAVIGATION)
        if not open_:
            assert f"{moved.auth}/login?rd={uri}" in away.fields.one("location").decode()
    escaped = verify.replace("verify", "%76erify")
    assert (await moved.get(escaped, token=token)).status == 404


@pytest.mark.parametrize("ambiguous", ["reject", "normalise"])
async def test_no_spelling_leads_past_the_prefix(
    upstream: ScriptedUpstream, ambiguous: str
) -> None:
    """An ambiguous path to the sidecar's own is refused, with either treatment of such paths."""
    settings: dict[str, Any] = {"auth_prefix": "/_sign-in", "paths_ambiguous": ambiguous}
    routes = [{"path": "/*", "access": "public"}]
    async with stack(upstream.url, routes=routes, **settings) as running:
        for path in ("/x/../_sign-in/login", "/_sign-in/../x", "//_sign-in/login", "/_sign-in//x"):
            assert (await running.get(path)).status == 400
        assert upstream.requests == []
        assert (await running.get("/%5fsign-in/login")).status == (
            200 if ambiguous == "reject" else 400
        )
        assert upstream.requests == []
        for path in ("/_Sign-in/login", "/_sign-inx/login", "/auth/login", "/_sign-in;/login"):
            answer = await running.get(path)
            assert answer.status == (400 if ";" in path else 200)
            assert answer.fields.all("server") != [b"sidecar"]


async def test_the_names_in_metrics_stay(moved: Stack) -> None:
    """Dashboards need no change."""
    await moved.get(f"{moved.auth}/login")
    await moved.get(f"{moved.auth}/verify")
    for sample in ('code="200",route="auth"', 'code="401",route="verify"'):
        assert await moved.metric(f"sidecar_requests_total{{{sample}}}") == 1


def test_no_path_is_written_out() -> None:
    """The default prefix is written once in the package, apart from explanations."""
    found = []
    for file in sorted(PACKAGE.rglob("*")):
        if file.suffix == ".py":
            for text, line in literals(ast.parse(file.read_text("utf-8"))):
                if re.search(rf"{DEFAULT_PREFIX}\b", text):
                    found.append(f"{file.relative_to(PACKAGE)}:{line}")
        elif file.suffix in {".html", ".js", ".css"}:
            assert DEFAULT_PREFIX not in file.read_text("utf-8"), file
    assert [each.partition(":")[0] for each in found] == ["settings/routes.py"]


def literals(tree: ast.Module) -> list[tuple[str, int]]:
    """Every text of a module that is no docstring, with its line."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    explained = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return [
        (node.value, node.lineno)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in explained
    ]


def test_a_rule_below_the_prefix(tmp_path: Path) -> None:
    """Checking the configuration names the rule, the prefix, and so the way out."""
    with pytest.raises(ConfigError) as caught:
        configure(tmp_path, "http://127.0.0.1:1", routes=[{"path": "/auth/x"}])
    assert "route[1].path: expected a path that the sidecar does not serve itself, because " in str(
        caught.value
    )
    made = configure(tmp_path, "http://127.0.0.1:1", routes=[{"path": "/auth/x"}], auth_prefix="/x")
    assert made.auth_prefix == "/x"
