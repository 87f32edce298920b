"""What operators report: what cannot be found, proxies with the samples, the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from tests.contract import fronts
from tests.peers.program import TREE, run
from tests.peers.raw_client import build, fetch
from tests.peers.redis_server import RedisServer, free_port
from tests.reports.report import LoneReport, Report, Rows
from tests.reports.site import NAVIGATION, Setup, Site, site, token

if TYPE_CHECKING:
    from tests.peers.http_text import Fields

Proxy = Callable[[int, int], AbstractContextManager[int]]
ALL_LINES: Final = Setup(environ=(("ACCESS_LOG", "all"),))
MANY: Final = [f"team-{number:03}-project-maintainer-eu" for number in range(130)]
FORGED: Final = ("X.Auth.User", "X~Auth~User", "X_Auth_User")


async def malformed(site: Site) -> None:
    """The answer, the access log, the log and the metric name the kind, and the log no secret."""
    sample = 'sidecar_malformed_total{reason="path"}'
    before = await site.metric(sample)
    answer = await site.get("/public/../x?secret=s3cr3t", "X-Forwarded-For: 198.51.100.7")
    assert answer.status == 400
    document = answer.json()
    assert document["reason"] == "path"
    request_id = document["request_id"]
    logged = await site.program.line(
        lambda line: line.get("logger") != "access" and line.get("request_id") == request_id
    )
    assert (logged["message"], logged["reason"]) == ("malformed request", "path")
    assert logged["client"] == "198.51.100.7"
    assert await site.metric(sample) == before + 1
    assert "s3cr3t" not in site.program.log.read_text()


async def audited_login(site: Site) -> None:
    """A login's line names user, client and method."""
    body = b'{"username": "admin", "password": "pw-admin"}'
    lines = ("Content-Type: application/json", "X-Forwarded-For: 198.51.100.8")
    assert (await site.ask(build("POST", "/auth/login", *lines, body=body))).status == 200
    line = await site.program.line(
        lambda each: each.get("event") == "login" and each["client"] == "198.51.100.8"
    )
    assert (line["user"], line["method"], line["result"]) == ("admin", "password", "success")
    assert "pw-admin" not in site.program.log.read_text()


async def forbidden(site: Site) -> None:
    """The line of a 403 names who, which session, and which rule asks for what."""
    bearer = (await site.login("alice"))["access_token"]
    sid = (await site.get("/auth/userinfo", token=bearer)).json()["sid"]
    assert (await site.get("/admin/secret", token=bearer)).status == 403
    line = await site.program.line(
        lambda each: each.get("logger") == "access" and each["status"] == 403
    )
    assert (line["subject"], line["sid"], line["rule"]) == ("alice", sid, "admins")
    assert (line["reason"], line["missing"]) == ("role", "admin")


async def whose_endpoint(site: Site) -> None:
    """An access log line of /auth/* names the caller."""
    bearer = (await site.login("alice"))["access_token"]
    assert (await site.get("/auth/userinfo", token=bearer)).status == 200
    line = await site.program.line(
        lambda each: each.get("logger") == "access" and each["path"] == "/auth/userinfo"
    )
    assert line["subject"] == "alice"


async def wrong_password() -> None:
    """A warning names server and user, and not the password."""
    with RedisServer(password="right") as redis:
        url = f"redis://:wr0ng-pw@127.0.0.1:{redis.port}/0"
        setup = Setup(environ=(("SESSION_STORE", "redis"), ("REDIS_URL", url)))
        async with site(setup) as running:
            line = await running.program.line(
                lambda each: each["level"] == "warning" and f":{redis.port}" in json.dumps(each)
            )
            assert "default" in json.dumps(line)
            assert "wr0ng-pw" not in running.program.log.read_text()


def names(fields: Fields) -> set[str]:
    """The names of the headers that the application received, in lower case."""
    return {name.decode().lower() for name in fields.names()}


@dataclass(frozen=True, slots=True)
class Page:
    """A person behind this proxy sees a page: for a 403, or for a sidecar that is away."""

    proxy: Proxy
    status: int

    async def __call__(self, site: Site) -> None:
        """Navigate, without the role or without a sidecar."""
        cookie = await site.cookie()
        sidecar = free_port() if self.status == 503 else site.port
        with self.proxy(sidecar, site.upstream.port) as port:
            answer = await fetch(port, build("GET", "/admin/x", cookie, *NAVIGATION))
        assert answer.status == self.status
        assert answer.fields.one("content-type").startswith(b"text/html")
        assert b"<html" in answer.body
        assert b'"title"' not in answer.body


async def many_roles(site: Site) -> None:
    """A user of 130 roles passes nginx, and the application gets all of them."""
    with fronts.nginx(site.port, site.upstream.port) as port:
        answer = await fetch(port, build("GET", "/x", token=token(roles=MANY)))
    assert answer.status == 200
    assert site.saw.fields.members("x-auth-roles") == [role.encode() for role in MANY]


async def look_alikes(site: Site) -> None:
    """Names that some applications take for X-Auth-User do not pass Envoy."""
    given = [f"{name}: root" for name in FORGED]
    with fronts.envoy(site.port, site.upstream.port) as port:
        answer = await fetch(port, build("GET", "/x", *given, token=token()))
    assert answer.status == 200
    assert not names(site.saw.fields) & {name.lower() for name in FORGED}


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample says what lifts a limit that only shows after a quarter of a minute, or a whole."""

    name: str
    lines: str

    async def __call__(self) -> None:
        """Read it."""
        assert self.lines in (TREE / "config" / self.name).read_text("utf-8")


async def traefik_starts(site: Site) -> None:
    """Traefik starts with the command in the sample's first lines, and asks the sidecar."""
    with fronts.traefik(site.port, site.upstream.port) as port:
        assert (await fetch(port, build("GET", "/x", token=token()))).status == 200
        assert (await fetch(port, build("GET", "/x"))).status == 401


@dataclass(frozen=True, slots=True)
class Prints:
    """A command ends with this code, and its output has this pattern."""

    argv: tuple[str, ...]
    pattern: str
    code: int = 0

    async def __call__(self) -> None:
        """Run it in the tree."""
        found = await run(*self.argv)
        assert found.code == self.code, found
        assert re.search(self.pattern, found.output + found.errors), found


async def check_json(site: Site) -> None:
    """The problems of a configuration are a list with places."""
    file = site.folder / "bad.toml"
    file.write_text('idle_timeout = "soon"\n')
    argv = ("sidecar", "check", "--json", "--config", str(file))
    found = await run(*argv, environ=site.environ)
    assert found.code == 2
    assert "idle_timeout" in json.dumps(json.loads(found.output))


async def token_json(site: Site) -> None:
    """What is in a token is one JSON object, with times in ISO 8601."""
    config = ("--config", str(site.folder / "sidecar.toml"))
    for command in ("explain", "inspect"):
        argv = ("sidecar", "token", command, "--json", *config)
        found = await run(*argv, stdin=token(roles=["user"]), environ=site.environ)
        assert found.code == 0, found
        assert re.search(r'"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d', json.dumps(json.loads(found.output)))


async def sessions_commands() -> None:
    """Times in JSON are ISO 8601; `revoke --all` ends every login at every pod."""
    with RedisServer() as redis:
        places = (
            *(("SESSION_STORE", "redis"), ("REDIS_HOST", "127.0.0.1")),
            *(("REDIS_PORT", str(redis.port)), ("REDIS_TIMEOUT", "1s")),
        )
        async with site(Setup(environ=places)) as running:
            given = [(await running.login(name))["access_token"] for name in ("alice", "admin")]
            command = ("sidecar", "sessions")
            listed = await run(*command, "list", "--json", environ=running.environ)
            for line in listed.output.splitlines():
                assert datetime.fromisoformat(json.loads(line)["created"]).tzinfo is not None
            revoked = await run(*command, "revoke", "--all", environ=running.environ)
            assert revoked.code == 0, revoked
            for each in given:
                assert (await running.get("/x", token=each)).status == 401


FRONTS: Final[Rows] = (
    Report(
        "nginx-403",
        "behind nginx a person sees raw JSON instead of a page",
        Page(fronts.nginx, 403),
        needs=("nginx",),
    ),
    Report(
        "nginx-503",
        "the same, if the sidecar is away",
        Page(fronts.nginx, 503),
        needs=("nginx",),
    ),
    Report(
        "haproxy-403",
        "behind HAProxy a person sees raw JSON instead of a page",
        Page(fronts.haproxy, 403),
        needs=("haproxy",),
    ),
    Report(
        "haproxy-503",
        "the same, if the sidecar is away",
        Page(fronts.haproxy, 503),
        needs=("haproxy",),
    ),
    Report(
        "nginx-many-roles",
        "users with 130 roles get 500 behind nginx",
        many_roles,
        needs=("nginx",),
    ),
    Report(
        "envoy-look-alikes",
        "clients name themselves with X~Auth~User behind Envoy",
        look_alikes,
        needs=("envoy",),
    ),
    LoneReport(
        "envoy-cuts",
        "Envoy cuts event streams after 15 s",
        Sample("envoy.yaml", "route: {cluster: application, timeout: 0s, idle_timeout: 0s}"),
    ),
    LoneReport(
        "traefik-uploads",
        "Traefik ends uploads after 60 s",
        Sample("traefik.yaml", "transport.respondingTimeouts.readTimeout=0s"),
    ),
    Report(
        "traefik-starts",
        "Traefik does not start with the sample",
        traefik_starts,
        needs=("traefik",),
    ),
)
COMMANDS: Final[Rows] = (
    LoneReport(
        "version",
        "--version is no option",
        Prints(("sidecar", "--version"), r"^sidecar \d+\.\d+"),
    ),
    LoneReport(
        "completion-bash",
        "bash completes nothing",
        Prints(("sidecar", "completion", "bash"), r"complete .*-F \w+ sidecar"),
    ),
    LoneReport(
        "completion-zsh",
        "zsh completes nothing",
        Prints(("sidecar", "completion", "zsh"), "#compdef sidecar"),
    ),
    LoneReport(
        "mistyped",
        "a mistyped command is answered with a list",
        Prints(("sidecar", "chek"), 'did you mean "check"', code=2),
    ),
    Report("check-json", "a pipeline cannot read the problems", check_json),
    Report("token-json", "a script cannot read what is in a token", token_json),
    LoneReport(
        "sessions-commands",
        "ending every login takes a loop, and times are numbers",
        sessions_commands,
    ),
    LoneReport(
        "make-run",
        "the demo's port cannot be changed with make",
        Prints(("make", "-n", "run", "ARGS=--port 8000"), r"sidecar demo --port 8000"),
    ),
)
OPERATING: Final[Rows] = (
    Report("malformed", "which of our links get 400, and why?", malformed, ALL_LINES),
    Report("audit-login", "who logged in, from where, and how?", audited_login, ALL_LINES),
    Report("whose-403", "whom did a 403 meet, and which rule was it?", forbidden, ALL_LINES),
    Report("whose-endpoint", "who calls /auth/userinfo so often?", whose_endpoint, ALL_LINES),
    LoneReport(
        "wrong-password",
        "with a wrong Redis password, the log says that Redis is away",
        wrong_password,
    ),
    *FRONTS,
    *COMMANDS,
)
