"""`sidecar sessions`: lists, shows, counts and ends the sessions in the Redis that pods share."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from redis.exceptions import RedisError

from sidecar.app import build
from sidecar.auth.denylist import RevocationKind, revocation_name
from sidecar.auth.revocation import EVERYTHING, Revocation
from sidecar.auth.session import SessionKey, token_id
from sidecar.cli.loading import load_arguments
from sidecar.cli.redis_credential import fetch_credential
from sidecar.cli.terminal import CommandFailed, UsageError, complain, read_line, say
from sidecar.sessions.redis.faults import CHECK, RedisUnavailable, classify
from sidecar.sessions.redis.scanner import SessionScanner
from sidecar.sessions.store import ServerName
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Awaitable, Callable

    from sidecar.auth.session import SessionInfo
    from sidecar.sessions.redis.store import RedisStore

T = TypeVar("T")

_TIMEOUT: Final = 10.0  # seconds per reply of Redis; longer than for requests: a person waits
_COLUMNS: Final = (
    ("SID", 24),
    ("USER", 20),
    ("CREATED", 20),
    ("SEEN", 20),
    ("EXPIRES", 20),
    ("METHOD", 10),
    ("ADDRESS", 16),
    ("USER AGENT", 0),
)


def sessions_list(arguments: Namespace) -> bool:
    """Print live sessions as they are found. Returns false if there are none."""

    async def work(browser: SessionScanner, _: RedisStore) -> int:
        number = 0
        async for info in browser.logins(arguments.user):
            if number == 0 and not arguments.json:
                say(_row([title for title, _ in _COLUMNS]))
            say(_json(info) if arguments.json else _row(_values(info)))
            number += 1
            if number == arguments.limit:
                break
        return number

    if _with_redis(arguments, work) == 0:
        complain("no sessions")
        return False
    return True


def sessions_show(arguments: Namespace) -> bool:
    """Print one session. Returns false if no session has this sid."""

    async def work(browser: SessionScanner, _: RedisStore) -> SessionInfo | None:
        return await browser.login(arguments.sid)

    info = _with_redis(arguments, work)
    if info is None:
        complain("no such session")
        return False
    if arguments.json:
        say(_json(info))
    else:
        for (title, _), value in zip(_COLUMNS, _values(info), strict=True):
            say(f"{title.lower():<12}{value}")
    return True


def sessions_revoke(arguments: Namespace) -> bool:
    """End sessions at every pod. Returns false if there were none. Raises UsageError."""
    before = None if arguments.before is None else _moment(arguments.before)
    if before is not None and arguments.user is None:
        raise UsageError("--before: expected --user with it")
    if arguments.issuer is not None:
        return _revoke_tokens(arguments, before)
    if arguments.jti is not None:
        raise UsageError("--jti: expected --issuer with it")
    token = read_line("token").strip() if arguments.token else ""

    async def work(browser: SessionScanner, store: RedisStore) -> int:
        if arguments.all:
            users = {info.sub async for info in browser.logins()}
            return sum([await store.revoke_user(sub) for sub in users])
        if arguments.user is not None:
            return await store.revoke_user(arguments.user, before)
        if arguments.sid is not None:
            return int(await store.revoke_session(arguments.sid))
        key = SessionKey(load_arguments(arguments).settings.session_key)
        return int(await store.revoke_token(token_id(token.encode(), key)))

    number = _with_redis(arguments, work)
    say(f"{number} session{'' if number == 1 else 's'} ended")
    return number > 0


def _revoke_tokens(arguments: Namespace, before: float | None) -> bool:
    """Revoke tokens of an issuer with a denylist, at every pod. Raises UsageError."""
    settings = load_arguments(arguments).settings
    modes = {each.issuer: each.session_mode for each in settings.issuer}
    modes[settings.jwt_issuer] = settings.session_mode
    issuer = arguments.issuer
    if modes.get(issuer) != "denylist":
        known = ", ".join(name for name, mode in modes.items() if mode == "denylist") or "none"
        raise UsageError(
            f'--issuer: expected one with session_mode = denylist ({known}); got "{issuer}"'
        )
    if arguments.token or arguments.all:
        raise UsageError("--issuer: expected --jti, --sid or --user with it")
    now = time.time()
    if arguments.user is not None:
        name = revocation_name(RevocationKind.USER, issuer, arguments.user)
        moment = now if before is None else before
    else:
        kind, value = (
            (RevocationKind.SID, arguments.sid)
            if arguments.jti is None
            else (RevocationKind.JTI, arguments.jti)
        )
        name, moment = revocation_name(kind, issuer, value), EVERYTHING
    revocations = {name: Revocation(moment, now + build.longest(settings))}

    async def work(_: SessionScanner, store: RedisStore) -> None:
        await store.revocations.revoke(revocations)

    _with_redis(arguments, work)
    say("revoked")
    return True


def sessions_count(arguments: Namespace) -> bool:
    """Print the number of live sessions."""

    async def work(browser: SessionScanner, _: RedisStore) -> int:
        return sum([1 async for _ in browser.logins(arguments.user)])

    say(str(_with_redis(arguments, work)))
    return True


def _with_redis(
    arguments: Namespace, work: Callable[[SessionScanner, RedisStore], Awaitable[T]]
) -> T:
    """Run `work` on Redis. Raises ConfigError, UsageError, and CommandFailed if Redis fails."""
    settings = load_arguments(arguments).settings
    if settings.session_store != "redis":
        raise UsageError("expected session_store = redis; sessions are in the memory of each pod")

    server = ServerName()

    async def run() -> T:
        nonlocal server
        mac = build.make_value_mac(settings)
        metrics = Metrics()
        credentials = await fetch_credential(settings, metrics)
        client, store = build.make_remote(settings, metrics, mac, credentials, timeout=_TIMEOUT)
        server = store.server
        try:
            return await work(SessionScanner(client, store.keys), store)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except RedisUnavailable as unavailable:
        fault = unavailable.fault
    except (RedisError, OSError) as error:
        fault = classify(error)
    where = f"Redis at {server.address} cannot be used: {fault}"
    if fault not in CHECK:
        raise CommandFailed(where)
    raise CommandFailed(f"{where} (user {server.user}); check {CHECK[fault]}")


def _values(info: SessionInfo) -> list[str]:
    return [
        info.sid,
        info.sub,
        *(_time(moment) for moment in (info.created, info.seen, info.exp)),
        info.method,
        info.address,
        info.user_agent,
    ]


def _row(values: list[str]) -> str:
    # Clients chose some of these values: escape what could control the terminal.
    shown = [
        "".join(char if char.isprintable() else repr(char)[1:-1] for char in value)
        for value in values
    ]
    widths = [width for _, width in _COLUMNS]
    return "  ".join(f"{text:<{width}}" for text, width in zip(shown, widths, strict=True)).rstrip()


def _json(info: SessionInfo) -> str:
    fields: dict[str, Any] = msgspec.to_builtins(info)
    fields |= {name: _time(fields[name]) for name in ("created", "seen", "exp")}
    return msgspec.json.encode(fields).decode()


def _time(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return str(moment)


def _moment(text: str) -> float:
    """Read a time as seconds since the epoch. Raises UsageError."""
    try:
        moment = float(text)
    except ValueError:
        try:
            read = datetime.fromisoformat(text)
            moment = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
        except ValueError:
            moment = math.nan
    if not math.isfinite(moment):
        raise UsageError(
            f'--before: expected a time such as 2026-01-31T12:00:00Z, or seconds; got "{text}"'
        )
    return moment
