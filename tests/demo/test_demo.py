"""`sidecar demo`, started as a user does, and the commands that it prints."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from sidecar.api.passwords import verify
from sidecar.demo.application import build_application
from sidecar.demo.stack import ROUTES, USERS
from sidecar.settings.routes import DEFAULT_PREFIX, check_routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROOT = Path(__file__).parents[2]
IDENTITY = {
    "X-Auth-User": "alice",
    "X-Auth-Subject": "alice",
    "X-Auth-Issuer": "auth-sidecar",
    "X-Auth-Roles": "user, admin",
    "X-Auth-Scopes": "",
    "X-Auth-Session": "s1",
}


@dataclass(slots=True)
class Demo:
    """A running demo, and what it printed until it was ready."""

    process: subprocess.Popen[str]
    text: str

    @property
    def url(self) -> str:
        """The URL of the sidecar."""
        found = re.search(r"http://127\.0\.0\.1:\d+", self.text)
        assert found
        return found[0]

    @property
    def commands(self) -> str:
        """The printed commands, without indentation."""
        listing = self.text.partition("another terminal:\n")[2].partition("Ctrl-C")[0]
        return "".join(line.removeprefix("  ") for line in listing.splitlines(keepends=True))

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; return the exit code, and the output since the demo was ready."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=15)
        return self.process.returncode, rest


def command(*ports: str) -> list[str]:
    """Return the command line; a port that is not given is any free one."""
    flags = ("--port", "--admin-port", "--app-port")
    given = [*ports, *("0" for _ in flags[len(ports) :])]
    pairs = [word for pair in zip(flags, given, strict=True) for word in pair]
    return [sys.executable, "-m", "sidecar", "demo", *pairs]


@contextlib.contextmanager
def running() -> Iterator[Demo]:
    """Start a demo, and wait until it is ready."""
    process = subprocess.Popen(
        command(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        text = ""
        for line in process.stdout:
            text += line
            if line.startswith("Ctrl-C"):
                break
        else:
            pytest.fail(f"the demo ended: {text}")
        yield Demo(process, text)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """Start one demo for all tests that do not stop it."""
    with running() as started:
        yield started


def bash(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script as if it were pasted into a terminal."""
    program = shutil.which("bash")
    assert program
    return subprocess.run(
        [program], input=script, capture_output=True, text=True, timeout=30, check=False
    )


# ── The command ──


def test_the_demo_does_not_warn_of_itself(demo: Demo) -> None:
    """It knows that its passwords are public and that it speaks plain HTTP."""
    assert "warning" not in demo.text.lower()


def test_the_printed_lines_do_what_they_say(demo: Demo) -> None:
    """The commands, pasted into bash, give the printed statuses."""
    found = bash(demo.commands)
    statuses = re.findall(r"HTTP/1\.1 (\d+)", found.stdout)
    promised = re.findall(r"(?m)^# .*?(\d{3})\.$", demo.commands)
    assert statuses == ["401", "200", "403", "204", "401"]
    assert promised == ["401", "403", "401"]
    assert '"message": "Hello, alice"' in found.stdout
    assert '"X-Auth-Roles": "user"' in found.stdout
    assert found.returncode == 0


def test_the_administrator_gets_where_alice_does_not(demo: Demo) -> None:
    """The same commands with the other user reach the administration page."""
    script = demo.commands.replace("alice", "admin").replace("/auth/logout", "/health")
    found = bash(script)
    assert re.findall(r"HTTP/1\.1 (\d+)", found.stdout) == ["401", "200", "200", "405", "200"]
    assert '"message": "Administration"' in found.stdout


async def test_a_browser_signs_in_and_out(demo: Demo) -> None:
    """A browser signs in, sees the page and signs out; the cookie is refused afterwards."""
    jar = aiohttp.CookieJar(unsafe=True, treat_as_secure_origin=demo.url)
    browser = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
    async with aiohttp.ClientSession(demo.url, cookie_jar=jar, headers=browser) as session:
        async with session.get("/auth/login") as page:
            assert page.status == 200
        form = {"username": "alice", "password": "demo-alice", "rd": "/"}
        origin = {"Origin": demo.url}
        async with session.post("/auth/login", data=form, headers=origin) as page:
            text = await page.text()
            assert (page.status, page.url.path) == (200, "/")
            assert "<h1>Hello, alice</h1>" in text
        assert 'action="/auth/logout"' in text
        assert 'name="rd"' not in text  # as the page's form sends it
        async with session.post("/auth/logout", data={"": ""}, headers=origin) as page:
            assert page.status == 200
            assert "You are signed out." in await page.text()
        async with session.get("/", allow_redirects=False) as page:
            assert page.status in {302, 303, 401}


async def test_events_and_websockets_pass(demo: Demo) -> None:
    """The application's events and WebSockets work through the sidecar."""
    async with aiohttp.ClientSession(demo.url) as session:
        login = {"username": "alice", "password": "demo-alice"}
        async with session.post("/auth/login", json=login) as answer:
            token = (await answer.json())["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        async with session.get("/events", headers=headers) as answer:
            assert answer.headers["Content-Type"] == "text/event-stream"
            assert await answer.content.readuntil(b"\n\n") == b"id: 1\ndata: event 1 for alice\n\n"
        async with session.ws_connect("/ws", headers=headers) as socket_:
            await socket_.send_str("hello")
            assert await socket_.receive_str(timeout=5) == "hello"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_even_with_a_stream_open(number: signal.Signals) -> None:
    """The demo exits with 0 in a few seconds, without a traceback or files left behind."""
    with running() as started:
        script = started.commands.partition("\n\n# alice is")[0]
        script += (
            f'\ncurl -sN -m 20 {started.url}/events -H "Authorization: Bearer $TOKEN" & sleep 0'
        )
        bash_ = subprocess.Popen(
            ["bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert bash_.stdout is not None
        for line in bash_.stdout:
            if line.startswith("data: event 1"):
                break
        code, rest = started.end(number)
        bash_.communicate(timeout=10)
    assert code == 0
    assert "Traceback" not in rest
    assert rest.splitlines()[-1].endswith("stopped")


@pytest.mark.parametrize(
    ("position", "flag"), [(0, "--port"), (1, "--admin-port"), (2, "--app-port")]
)
def test_a_taken_port_is_named(position: int, flag: str) -> None:
    """The demo exits with 1 and one line that names the flag for another port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = ["0"] * position + [str(port)]
        found = subprocess.run(
            command(*ports), cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )
    assert found.returncode == 1
    assert found.stderr == (
        f"sidecar: port {port} is taken (another program listens on 127.0.0.1:{port}); "
        f"choose another with {flag}\n"
    )


def test_the_users_are_those_of_the_shipped_file() -> None:
    """The demo and config/users.toml have the same users and documented passwords."""
    users = tomllib.loads(USERS)["user"]
    assert users == tomllib.loads((ROOT / "config/users.toml").read_text("utf-8"))["user"]
    assert [(user["name"], user["roles"]) for user in users] == [
        ("alice", ["user"]),
        ("admin", ["user", "admin"]),
    ]
    assert all(verify(user["password_hash"], f"demo-{user['name']}") for user in users)


def test_the_routes_are_good_ones() -> None:
    """The demo's routes pass the checks for routes of a file."""
    assert list(check_routes(ROUTES, DEFAULT_PREFIX)) == []


# ── The application alone ──


Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def application() -> AsyncIterator[Client]:
    """The demo application without a sidecar."""
    async with TestClient(TestServer(build_application())) as client:
        yield client


async def test_the_application_answers_curl_with_json(application: Client) -> None:
    """The JSON has every identity header, and ends with a line break."""
    answer = await application.get("/", headers=IDENTITY)
    text = await answer.text()
    assert json.loads(text) == {
        "message": "Hello, alice",
        "roles": ["user", "admin"],
        "identity": IDENTITY,
    }
    assert text.endswith("}\n")


async def test_the_application_answers_a_browser_with_a_page(application: Client) -> None:
    """The page has every identity header and a sign-out button, and is not cached."""
    answer = await application.get("/", headers=IDENTITY | {"Accept": "text/html,*/*;q=0.8"})
    text = await answer.text()
    assert answer.content_type == "text/html"
    assert answer.headers["Cache-Control"] == "no-store"
    for name, value in IDENTITY.items():
        assert f"<tr><th scope=row>{name}</th><td>{value or '&mdash;'}</td></tr>" in text
    assert "<span>user</span> <span>admin</span>" in text
    assert '<form method="post" action="/auth/logout">' in text


async def test_the_page_escapes_what_it_shows(application: Client) -> None:
    """HTML in a name is escaped."""
    headers = {"Accept": "text/html", "X-Auth-User": "<b>a", "X-Auth-Roles": "<i>"}
    text = await (await application.get("/", headers=headers)).text()
    assert "<b>" not in text
    assert "<i>" not in text
    assert "&lt;b&gt;a" in text


async def test_the_page_offers_a_stranger_to_sign_in(application: Client) -> None:
    """Without an identity, the page has a link to sign in."""
    text = await (await application.get("/", headers={"Accept": "text/html"})).text()
    assert "<h1>Hello, you are not signed in</h1>" in text
    assert '<a href="/auth/login?rd=/">Sign in</a>' in text


async def test_the_application_alone_runs_by_its_module() -> None:
    """As in the example pods, it listens on loopback port 8080, and a signal ends it with 0."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RUN_ON_A_FREE_PORT), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
        assert line == "demo application listening on http://127.0.0.1:8080, for a sidecar\n"
        port = int(await asyncio.wait_for(process.stdout.readline(), 20))
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            async with session.get("/health") as answer:
                assert await answer.json() == {"status": "ok"}
            async with session.ws_connect("/ws") as socket_:
                await socket_.send_bytes(b"\x00\xff")
                assert await socket_.receive_bytes(timeout=5) == b"\x00\xff"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 15) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


# The module unchanged, except for the port, which may be in use on this machine.
RUN_ON_A_FREE_PORT = """
import runpy, socket
from aiohttp import web
run_app = web.run_app
def run_on_a_free_port(application, *, host, port, **more):
    assert (host, port) == ("127.0.0.1", 8080)
    sock = socket.create_server((host, 0))
    print(sock.getsockname()[1], flush=True)
    run_app(application, sock=sock, **more)
web.run_app = run_on_a_free_port
runpy.run_module("sidecar.demo", run_name="__main__")
"""
