"""`sidecar demo`: the sidecar, with sessions in its own memory, in front of the demo application.

It has its own users and routes, and makes new secrets at each start. It reads no configuration, and
leaves no files behind.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from aiohttp import web
from msgspec import structs

from sidecar.app.sidecar import Sidecar
from sidecar.app.signals import Signals
from sidecar.demo.application import build_application
from sidecar.secret import Secret
from sidecar.settings import DEFAULT_PREFIX, Address, RouteSettings, Settings, Upstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.telemetry.logs import Redactor

HOST: Final = "127.0.0.1"
ROUTES: Final = (
    RouteSettings(path="/health", access="public"),
    RouteSettings(path="/admin/*", roles=("admin",)),
)
# The users of config/users.toml, whose passwords are demo-alice and demo-admin.
USERS: Final = """\
[[user]]
name = "alice"
password_hash = "$argon2id$v=19$m=19456,t=2,p=1$uTXCoY+T7f2BYZe6bFegcQ$Y+cXdyg9DhdSzp67OcHg2xXOrkmYv/ybJ7bSY20B704"
roles = ["user"]
claims = {email = "alice@example.com"}

[[user]]
name = "admin"
password_hash = "$argon2id$v=19$m=19456,t=2,p=1$6x8fR0Ux83qNaLRLkS0DkA$N9db66XkxgRasyCzZQOrLmO7dobZH8I56Z6rD+hvZxI"
roles = ["user", "admin"]
claims = {email = "admin@example.com"}
"""  # noqa: E501 — a hash has no seam
GUIDE: Final = """
The sidecar is running in front of a demo application. It keeps sessions in its own memory.

  {url}/           in a browser: sign in as alice (demo-alice) or admin (demo-admin)
  {admin_url}/metrics    metrics; the probes are /livez and /readyz

Try it in another terminal:

  # A request without a session is denied: 401.
  curl -i {url}/

  # Log in. The application then sees who is calling.
  TOKEN=$({login})
  curl -i {url}/ -H "Authorization: Bearer $TOKEN"

  # alice does not have the role "admin": 403.
  curl -i {url}/admin/ -H "Authorization: Bearer $TOKEN"

  # Log out. The same token is no longer accepted: 401.
  curl -i -X POST {url}{prefix}/logout -H "Authorization: Bearer $TOKEN"
  curl -i {url}/ -H "Authorization: Bearer $TOKEN"

Ctrl-C stops the demo.
"""
LOGIN: Final = """\
curl -s {url}{prefix}/login -H 'Content-Type: application/json' \\
    -d '{{"username": "alice", "password": "demo-alice"}}' \\
    | sed 's/.*"access_token": *"\\([^"]*\\)".*/\\1/'"""


def guide(url: str, admin_url: str) -> str:
    """Return the text that the demo prints: its addresses, and commands to copy."""
    login = LOGIN.format(url=url, prefix=DEFAULT_PREFIX)
    return GUIDE.format(url=url, admin_url=admin_url, prefix=DEFAULT_PREFIX, login=login)


def demo_settings(port: int, admin_port: int) -> Settings:
    """Return settings with new secrets; `run_demo` adds the users and the application."""
    return Settings(
        listen=Address(HOST, port),
        admin_listen=Address(HOST, admin_port),
        jwt_secret=Secret(secrets.token_urlsafe(48)),
        refresh_secret=Secret(secrets.token_urlsafe(48)),
        session_store="local",
        route=ROUTES,
        log_format="text",
        access_log="all",
    )


async def run_demo(
    settings: Settings, app_port: int, redactor: Redactor, say: Callable[[str], None]
) -> bool:
    """Serve until a signal arrives; return whether the shutdown was orderly.

    A second signal ends the shutdown early, which is not orderly. Port 0 means any free port.
    Raises OSError if a port is taken.
    """
    signals = Signals()
    with signals.handled():
        await _serve(settings, app_port, redactor, say, signals)
    return not signals.hurry.is_set()


async def _serve(
    settings: Settings,
    app_port: int,
    redactor: Redactor,
    say: Callable[[str], None],
    signals: Signals,
) -> None:
    runner = web.AppRunner(build_application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, app_port).start()
        upstream = Upstream("http", HOST, runner.addresses[0][1])
        with TemporaryDirectory(prefix="sidecar-demo-") as folder:
            users = Path(folder) / "users.toml"
            users.write_text(USERS, "utf-8")
            changes = {"upstream_url": upstream, "users_file": str(users)}
            sidecar = Sidecar(structs.replace(settings, **changes), redactor=redactor)
            await sidecar.start()
            try:
                say(guide(f"http://{HOST}:{sidecar.port}", f"http://{HOST}:{sidecar.admin_port}"))
                await signals.stop.wait()
                # First, because otherwise the sidecar would wait for open event streams.
                await runner.cleanup()
            finally:
                await sidecar.stop(hurry=signals.hurry)
    finally:
        await runner.cleanup()
