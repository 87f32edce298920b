"""Who was refused, and by which rule, can be found in the access log and in the audit log."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.auth.reason import Reason
from sidecar.telemetry.audit import LOGGER
from tests.peers.raw_client import build
from tests.peers.scripted_upstream import ScriptedUpstream, reply
from tests.peers.stack import Stack, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROUTES: Final = (
    {"path": "/reports/*", "roles": ["auditor", "admin"], "name": "reports"},
    {"path": "/scoped/*", "scopes": ["read", "write"], "name": "scoped"},
    {"path": "/mail/*", "claims": {"email": "admin@example.org"}, "name": "mail"},
)
PROXIES: Final = ["127.0.0.0/8"]


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An application."""
    async with ScriptedUpstream() as server:
        yield server


@pytest.fixture
async def quiet(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar with the default access log, of denied requests only."""
    async with stack(upstream.url, routes=ROUTES) as running:
        yield running


@pytest.fixture
async def site(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar that logs every request, behind a trusted proxy, which is the test."""
    async with stack(
        upstream.url, routes=ROUTES, access_log="all", trusted_proxies=PROXIES
    ) as running:
        yield running


def access_lines(site: Stack, capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the lines of the access log since the last call."""
    context = site.sidecar.context
    assert context is not None
    assert context.access_log is not None
    context.access_log.flush()
    found = [json.loads(line) for line in capfd.readouterr().out.splitlines() if '"access"' in line]
    return [line for line in found if line["logger"] == "access"]


def audit_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the audit lines about forbidden requests."""
    lines = [vars(each) for each in caplog.records if each.name == LOGGER]
    return [line for line in lines if line["event"] == "forbidden"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/reports/x", (Reason.ROLE, "reports", "admin auditor"), id="role"),
        pytest.param("/scoped/x", (Reason.SCOPE, "scoped", "read write"), id="scope"),
        pytest.param("/mail/x", (Reason.CLAIM, "mail", "email"), id="claim"),
    ],
)
@pytest.mark.parametrize("way", ["proxied", "subrequest"])
async def test_a_403_says_who_and_why(
    site: Stack,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    path: str,
    *,
    expected: tuple[Reason, str, str],
    way: str,
) -> None:
    """Both logs name the user, the session, the rule and what it asks for; the answer does not."""
    caplog.set_level(logging.INFO)
    reason, rule, missing = expected
    tokens = await site.login()
    sid = (await site.get("/auth/userinfo", token=tokens.access)).json()["sid"]
    access_lines(site, capfd)
    lines = ["X-Forwarded-For: 198.51.100.7"]
    if way == "subrequest":
        lines += [f"X-Original-URI: {path}", "X-Forwarded-Host: x"]
        path = "/auth/verify"
    answer = await site.get(path, *lines, token=tokens.access)
    assert answer.status == 403
    (entry,) = access_lines(site, capfd)
    (line,) = audit_lines(caplog)
    for found in (entry, line):
        assert (found["sid"], found["issuer"]) == (sid, "auth-sidecar")
        assert (found["client"], found["missing"]) == ("198.51.100.7", missing)
        assert found["request_id"] == (answer.fields.one("X-Request-Id") or b"").decode()
    assert (entry["subject"], entry["rule"], entry["reason"]) == ("alice", rule, reason.label)
    assert (line["user"], line["route"], line["result"]) == ("alice", rule, reason.label)
    assert rule not in answer.body.decode() + answer.head.decode().replace(path, "")
    again = await site.get(path, *lines, token=tokens.access)
    assert again.status == 403
    assert len(audit_lines(caplog)) == 1, "one user fills the audit log"
    assert len(access_lines(site, capfd)) == 1


async def test_lines_of_the_control_plane_name_the_caller(
    site: Stack, capfd: pytest.CaptureFixture[str]
) -> None:
    """A line about /auth/* has the subject once it is known; no client sees how it got there."""
    tokens = await site.login()
    bearer = f"Authorization: Bearer {tokens.access}"
    body = f'{{"refresh_token": "{tokens.refresh}"}}'.encode()
    requests = [
        build("GET", "/auth/userinfo", bearer),
        build("GET", "/auth/sessions", bearer),
        build("GET", "/auth/login", f"Cookie: {await site.cookie('admin')}"),
        build("POST", "/auth/refresh", "Content-Type: application/json", body=body),
        build("GET", "/auth/userinfo"),
        build("POST", "/auth/logout", bearer, body=b""),
    ]
    for request in requests:
        answer = await site.ask(request)
        assert b"caller" not in answer.head.lower()
    login, form, *others = access_lines(site, capfd)
    assert [line["subject"] for line in (login, form, *others)] == [
        *("alice", "admin"),
        *("alice", "alice", "admin", "alice", "", "alice"),
    ]
    for line in (login, *others):
        assert bool(line["sid"]) == bool(line["issuer"]) == bool(line["subject"])
    assert login["sid"] == others[0]["sid"] == others[-1]["sid"]


async def test_what_the_control_plane_refuses(
    quiet: Stack, capfd: pytest.CaptureFixture[str]
) -> None:
    """Refusals of /auth/* are in the default access log, with the request id of the answer."""
    json_type = "Content-Type: application/json"
    await quiet.login()  # allowed, so not in this log
    answers = [
        await quiet.ask(build("POST", "/auth/login", json_type, body=b"{")),
        await quiet.ask(build("POST", "/auth/login", "Content-Type: text/plain", body=b"x")),
        await quiet.get("/auth/nothing"),
        await quiet.get("/auth/userinfo"),
    ]
    assert [answer.status for answer in answers] == [400, 415, 404, 401]
    lines = access_lines(quiet, capfd)
    assert [(line["status"], line["request_id"]) for line in lines] == [
        (answer.status, answer.json()["request_id"]) for answer in answers
    ]
    assert {line["reason"] for line in lines} == {"control_plane"}


async def test_a_failed_login_has_no_subject(
    site: Stack, capfd: pytest.CaptureFixture[str]
) -> None:
    """A name that was not verified is no subject."""
    body = b'{"username": "alice", "password": "wrong"}'
    await site.ask(build("POST", "/auth/login", "Content-Type: application/json", body=body))
    (line,) = access_lines(site, capfd)
    assert (line["status"], line["subject"]) == (401, "")


async def test_an_application_cannot_name_a_caller(
    site: Stack, upstream: ScriptedUpstream, capfd: pytest.CaptureFixture[str]
) -> None:
    """The line that names a caller has no meaning from an application, and passes unchanged."""
    upstream.scripts = [[reply(b"ok", "200 OK", "Sidecar-Caller: admin i s")]]
    answer = await site.get("/x", token=(await site.login()).access)
    assert answer.fields.one("sidecar-caller") == b"admin i s"
    assert access_lines(site, capfd)[-1]["subject"] == "alice"
