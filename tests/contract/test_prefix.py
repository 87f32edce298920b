"""The sample configurations with another AUTH_PREFIX, changed as the manual says."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

import pytest

from tests.contract.fronts import FRONTS
from tests.deploy.manifests import ROOT
from tests.peers.raw_client import build, fetch
from tests.peers.redis_server import free_port
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import stack

if TYPE_CHECKING:
    from tests.contract.fronts import Front

MANUAL: Final = (ROOT / "docs/operating.md").read_text("utf-8")
PREFIX: Final = "/_sign-in"
HOST: Final = "http://sidecar.test"
NAVIGATION: Final = ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: none", "Accept: text/html")
FORM: Final = (f"Origin: {HOST}", "Content-Type: application/x-www-form-urlencoded")


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change every sample by the command in the manual."""
    script = "s#/auth/#/_sign-in/#g"
    assert f"sed '{script}' config/nginx.conf" in MANUAL
    shutil.copytree(ROOT / "config", tmp_path / "config")
    for file in filter(Path.is_file, (tmp_path / "config").iterdir()):
        subprocess.run(["sed", "-i", script, str(file)], check=True)
    monkeypatch.setattr("tests.contract.fronts.TREE", tmp_path)


@pytest.mark.usefixtures("changed")
@pytest.mark.parametrize(
    "front",
    [pytest.param(each, id=each.name, marks=pytest.mark.needs(each.program)) for each in FRONTS],
)
async def test_another_prefix(front: Front) -> None:
    """People sign in below the prefix, and /auth is the application's, rules and all."""
    async with AsyncExitStack() as running:
        ports = free_port(), free_port()
        port = running.enter_context(front.start(*ports))
        application = await running.enter_async_context(ScriptedUpstream(port=ports[1]))
        await running.enter_async_context(
            stack(
                application.url,
                listen=f"127.0.0.1:{ports[0]}",
                auth_prefix=PREFIX,
                trusted_proxies=["127.0.0.1/32"],
                routes=[{"path": "/auth/open", "access": "public"}],
            )
        )
        away = await fetch(port, build("GET", "/auth/login?x", *NAVIGATION))
        assert away.status == 302
        path, _, query = away.fields.one("Location").decode().removeprefix(HOST).partition("?")
        assert (path, parse_qs(query)) == (f"{PREFIX}/login", {"rd": ["/auth/login?x"]})
        page = await fetch(port, build("GET", f"{path}?{query}", *NAVIGATION))
        assert f'action="{PREFIX}/login"'.encode() in page.body
        body = b"username=alice&password=pw-alice&rd=/auth/login?x"
        login = await fetch(port, build("POST", path, *FORM, body=body))
        assert login.status == 303
        cookie = "Cookie: " + login.fields.one("Set-Cookie").decode().partition(";")[0]
        assert application.requests == []
        for target, who in (("/auth/login?x", b"alice"), ("/auth/open", b"")):
            assert (await fetch(port, build("GET", target, cookie))).status == 200
            assert application.requests[-1].target == target.encode()
            # nginx passes no empty header on.
            assert b"".join(application.requests[-1].fields.all("X-Auth-User")) == who
        for path in (f"{PREFIX}/verify", f"{PREFIX}/verify/{front.name}/auth/open"):
            answer = await fetch(port, build("GET", path, "X-Original-URI: /auth/open"))
            assert answer.status in {401, 404}
