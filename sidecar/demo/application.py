"""The demo application: shows what the sidecar says about the caller.

Like any application behind the sidecar, it knows no tokens, cookies or sessions, and trusts the
X-Auth-* headers of a request. It listens on loopback, so only the sidecar can reach it.
"""

from __future__ import annotations

import asyncio
import json
from html import escape
from string import Template
from typing import TYPE_CHECKING, Final

from aiohttp import WSMsgType, web

from sidecar.settings import DEFAULT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENT_INTERVAL: Final = 1.0  # seconds
PREFIX: Final = "x-auth-"
MAX_MESSAGE: Final = 1 << 20  # bytes of one WebSocket message

_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_PAGE: Final = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; --line: #8886; --soft: #8881; --accent: #2456c7; }
@media (prefers-color-scheme: dark) { :root { --accent: #8db2ff; } }
body { max-width: 42rem; margin: 3rem auto; padding: 0 1.25rem;
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .5rem; font-size: 1.75rem; line-height: 1.25; overflow-wrap: anywhere; }
p { margin: 0 0 1.5rem; }
.roles span { padding: .1rem .6rem; border: 1px solid var(--line); border-radius: 1rem; }
table { width: 100%; margin: 0 0 1.5rem; border-collapse: collapse; }
caption { padding: 0 0 .5rem; font-weight: 600; text-align: left; }
th, td { padding: .4rem .75rem .4rem 0; border-top: 1px solid var(--line); text-align: left; }
th { font-weight: 400; white-space: nowrap; }
td { font-family: ui-monospace, monospace; font-size: .875rem; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: 1.25rem; align-items: center; }
a { color: var(--accent); }
form { margin-left: auto; }
button { padding: .4rem 1rem; font: inherit; color: inherit; background: var(--soft);
  border: 1px solid var(--line); border-radius: .5rem; cursor: pointer; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p class="roles">$roles</p>
<table>
<caption>Identity headers from the sidecar</caption>
<tbody>
$rows
</tbody>
</table>
<nav>
<a href="/">Home</a>
<a href="/admin/">Administration</a>
<a href="/events">Events</a>
<a href="/health">Health</a>
$session
</nav>
</main>
</body>
</html>
"""
)
_SIGN_OUT: Final = (
    f'<form method="post" action="{DEFAULT_PREFIX}/logout">'
    '<button type="submit">Sign out</button></form>'
)
_SIGN_IN: Final = f'<a href="{DEFAULT_PREFIX}/login?rd=/">Sign in</a>'


def build_application() -> web.Application:
    """Build the application. Which paths need a session or a role is up to the sidecar's routes."""
    application = web.Application()
    application.router.add_get("/", _show_home)
    application.router.add_get("/admin/", _show_admin)
    application.router.add_get("/health", _show_health)
    application.router.add_get("/events", _send_events)
    application.router.add_get("/ws", _echo)
    return application


async def _show_home(request: web.Request) -> web.Response:
    user = request.headers.get("X-Auth-User", "")
    return _answer(request, f"Hello, {user}" if user else "Hello, you are not signed in")


async def _show_admin(request: web.Request) -> web.Response:
    return _answer(request, "Administration")


async def _show_health(_: web.Request) -> web.Response:
    return _json({"status": "ok"}, {})


def _answer(request: web.Request, title: str) -> web.Response:
    """Return an HTML page for a browser, and JSON for any other client."""
    identity = {
        name: value for name, value in request.headers.items() if name.lower().startswith(PREFIX)
    }
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    if "text/html" in request.headers.get("Accept", ""):
        headers["Content-Security-Policy"] = _POLICY
        page = _page(title, identity, request.headers)
        return web.Response(text=page, content_type="text/html", headers=headers)
    body = {"message": title, "roles": _roles(request.headers), "identity": identity}
    return _json(body, headers)


def _json(body: object, headers: Mapping[str, str]) -> web.Response:
    """Return JSON with indentation and a final line break, for reading in a terminal."""
    text = json.dumps(body, indent=2, ensure_ascii=False) + "\n"
    return web.Response(text=text, content_type="application/json", headers=headers)


def _roles(headers: Mapping[str, str]) -> list[str]:
    return [role for role in headers.get("X-Auth-Roles", "").replace(",", " ").split() if role]


def _page(title: str, identity: Mapping[str, str], headers: Mapping[str, str]) -> str:
    roles = " ".join(f"<span>{escape(role)}</span>" for role in _roles(headers))
    rows = "\n".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{escape(value) or '&mdash;'}</td></tr>"
        for name, value in identity.items()
    )
    session = _SIGN_OUT if headers.get("X-Auth-User") else _SIGN_IN
    return _PAGE.substitute(title=escape(title), roles=roles, rows=rows, session=session)


async def _send_events(request: web.Request) -> web.StreamResponse:
    """Send an event immediately and then one each second, until the client leaves.

    The format is that of section 9.2 of the HTML standard.
    """
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    )
    await response.prepare(request)
    user = request.headers.get("X-Auth-User", "")
    number = 0
    try:
        while True:
            number += 1
            await response.write(f"id: {number}\ndata: event {number} for {user}\n\n".encode())
            await asyncio.sleep(EVENT_INTERVAL)
    except ConnectionResetError:  # the client left
        return response


async def _echo(request: web.Request) -> web.WebSocketResponse:
    """Send every WebSocket message back to the client."""
    socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket
