"""A sidecar process with what is around it: an application, an issuer's key server, two users.

Everything here works with any version of the program. The users are `alice` (role user) and `admin`
(role admin); each password is `pw-<name>`. The issuer is https://id.test for the audience `shop`,
and its keys are `k1`, unless a row publishes others.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
import string
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from tests.auth import forge
from tests.peers.key_server import KeyServer
from tests.peers.program import Program, program
from tests.peers.raw_client import Response, build, fetch
from tests.peers.scripted_upstream import OK, ScriptedUpstream
from tests.peers.stack import ADMIN, ALICE, REFRESH_SECRET, SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.peers.scripted_upstream import Received, Scripts

THEIRS: Final = "https://id.test"
NAVIGATION: Final = ("Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: none")
FORM: Final = ("Content-Type: application/x-www-form-urlencoded", "Origin: http://sidecar.test")
JSON: Final = "Content-Type: application/json"
ISSUER: Final = """
[[issuer]]
issuer = "https://id.test"
audience = "shop"
jwks_url = "$keys/keys"
session_mode = "denylist"
"""
# What the program has had from the beginning: most rows share one process with these tables.
TABLES: Final = f"""
[identity]
X-Auth-Org = "org.id"

[[route]]
path = "/open/*"
access = "optional"

[[route]]
path = "/public/*"
access = "public"

[[route]]
name = "admins"
path = "/admin/*"
roles = ["admin"]

[[route]]
path = "/level/*"
claims = {{"org.level" = [2]}}
{ISSUER}
"""


@dataclass(frozen=True, slots=True)
class Setup:
    """How a site is configured; rows with equal setups share one, unless it is their `own`.

    `tables` are TOML, `environ` environment variables. In both, $keys is the key server's origin
    and $folder the folder with the configuration, which also gets `files`.
    """

    tables: str = TABLES
    environ: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, bytes], ...] = ()
    scripts: Scripts = ((OK,),)
    own: str = ""


@dataclass(slots=True)
class Site:
    """A running site."""

    program: Program
    upstream: ScriptedUpstream
    keys: KeyServer
    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        """The traffic port."""
        return self.program.port

    @property
    def saw(self) -> Received:
        """The request that the application received last."""
        return self.upstream.requests[-1]

    async def ask(self, request: bytes) -> Response:
        """Send one raw request on a new connection."""
        return await fetch(self.port, request)

    async def get(self, target: str, *lines: str, token: str | None = None) -> Response:
        """Send one GET on a new connection."""
        return await self.ask(build("GET", target, *lines, token=token))

    async def login(self, name: str = "alice", auth: str = "/auth") -> dict[str, Any]:
        """Log in as a program does, and return the answer."""
        body = json.dumps({"username": name, "password": f"pw-{name}"}).encode()
        answer = await self.ask(build("POST", f"{auth}/login", JSON, body=body))
        assert answer.status == 200, answer
        return dict(answer.json())

    async def cookie(self, name: str = "alice") -> str:
        """Log in as a browser does, and return the header line with the session cookie."""
        answer = await self.form(name)
        return "Cookie: " + answer.fields.one("set-cookie").decode().partition(";")[0]

    async def form(self, name: str = "alice", rd: str = "/") -> Response:
        """Send the form of the sign-in page."""
        fields = urlencode({"username": name, "password": f"pw-{name}", "rd": rd})
        answer = await self.ask(build("POST", "/auth/login", *FORM, body=fields.encode()))
        assert answer.status == 303, answer
        return answer

    async def page(self, location: str) -> tuple[Response, str]:
        """Open the sign-in page; return it, and the address in its form to which it leads."""
        answer = await self.get(location, *NAVIGATION)
        match = re.search(r'name="rd" value="([^"]*)"', answer.body.decode())
        assert match is not None, answer
        return answer, html.unescape(match[1])

    async def metric(self, sample: str) -> float:
        """Return one sample of /metrics by its name and labels; 0 if it is missing."""
        text = (await fetch(self.program.admin_port, build("GET", "/metrics"))).body.decode()
        values = dict(line.rpartition(" ")[::2] for line in text.splitlines())
        return float(values.get(sample, 0))


def token(
    *, kid: str = "k1", alg: str = "ES256", key: Any = forge.SECRET, typ: str = "JWT", **claims: Any
) -> str:
    """Make a token of the issuer; `key` signs it in place of the private key for `alg`."""
    now = int(time.time())
    payload = {
        "iss": THEIRS,
        "aud": "shop",
        "sub": "u-1",
        "iat": now,
        "exp": now + 600,
        "jti": uuid.uuid4().hex,
        **claims,
    }
    header = json.dumps({"alg": alg, "typ": typ, "kid": kid}).encode()
    return forge.raw_token(header, json.dumps(payload).encode(), alg=alg, key=key).decode()


@contextlib.asynccontextmanager
async def site(setup: Setup) -> AsyncIterator[Site]:
    """Run a site with this setup."""
    with tempfile.TemporaryDirectory() as name:
        async with ScriptedUpstream(setup.scripts) as upstream, KeyServer() as keys:
            keys.publish(k1="ES256")
            places = {"keys": keys.origin, "folder": name}
            environ = configure(Path(name), setup, upstream.url, places)
            async with program(Path(name), environ) as running:
                yield Site(running, upstream, keys, Path(name), environ)


def configure(
    folder: Path, setup: Setup, upstream_url: str, places: Mapping[str, str]
) -> dict[str, str]:
    """Write the files of a setup, and return its environment variables."""
    for name, content in setup.files:
        (folder / name).write_bytes(content)
    (folder / "users.toml").write_text("\n".join(user.toml() for user in (ALICE, ADMIN)))
    (folder / "sidecar.toml").write_text(string.Template(setup.tables).substitute(places))
    always = {
        "LISTEN": "127.0.0.1:0",
        "ADMIN_LISTEN": "127.0.0.1:0",
        "UPSTREAM_URL": upstream_url,
        "JWT_SECRET": SECRET,
        "REFRESH_SECRET": REFRESH_SECRET,
        "SESSION_STORE": "local",
        "USERS_FILE": str(folder / "users.toml"),
        "TRUSTED_PROXIES": "127.0.0.0/8",
    }
    given = {name: string.Template(value).substitute(places) for name, value in setup.environ}
    return {**always, **given}
