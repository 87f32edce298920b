"""`sidecar token mint` and `sidecar token explain`: make a token for a script, or explain one."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from msgspec import structs

from sidecar.api.grants import new_sid
from sidecar.app import build
from sidecar.auth.gate import Gate
from sidecar.auth.issue import RESERVED
from sidecar.auth.session import Grant, Session, SessionKey, token_id
from sidecar.cli.loading import load_arguments
from sidecar.cli.redis_credential import fetch_credential
from sidecar.cli.terminal import CommandFailed, UsageError, complain, read_line, say
from sidecar.cli.token_effect import as_lines, as_members, effect_of
from sidecar.cli.token_report import as_json, judge, read, show
from sidecar.cli.token_steps import steps_of
from sidecar.settings.kinds import seconds
from sidecar.tasks import Tasks
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from sidecar.auth.keys import Key, KeyRing
    from sidecar.settings import Settings

NO_SESSION = (
    "note: the token has no session, so the sidecar refuses it (session_mode = required); "
    "use --store to write a session to Redis"
)


def mint(arguments: Namespace) -> bool:
    """Print an access token.

    Raises ConfigError, UsageError, and CommandFailed if Redis cannot store the session.
    """
    settings = load_arguments(arguments).settings
    claims = _read_claims(arguments)
    if arguments.ttl is not None:
        settings = structs.replace(settings, access_token_expiry=_read_ttl(arguments.ttl))
    if arguments.store and settings.session_store != "redis":
        raise UsageError(
            "--store: expected session_store = redis; sessions are in the memory of each pod"
        )
    issuer = build.make_issuer(settings, build.Keys(settings))
    now, sid = time.time(), new_sid()
    try:
        token = issuer.access(arguments.sub, sid, claims, now, secrets.token_urlsafe(16))
    except ValueError as fault:
        raise UsageError(str(fault)) from None
    if arguments.store:
        session = Session(
            id=token_id(token.encode(), SessionKey(settings.session_key)),
            sid=sid,
            sub=arguments.sub,
            claims=claims,
            created=now,
            exp=issuer.access_expires(now),
            method="mint",
        )
        asyncio.run(_write(settings, Grant(session=session)))
    elif settings.session_mode == "required":
        complain(NO_SESSION)
    say(token)
    return True


def explain(arguments: Namespace) -> bool:
    """Print the contents of a token, then what the sidecar makes of it. Raises ConfigError."""
    token = _read_token(arguments)
    now = time.time()
    if not arguments.json:
        say("\n".join(show(token, now)))
    settings = load_arguments(arguments).settings
    components = build.make_components(settings)
    keys = components.foreign
    if not arguments.offline:
        keys = asyncio.run(_with_fetched_keys(settings, keys, token))
    live = build.make_live_config(settings, components, keys)
    steps = list(steps_of(token, live.verifier, now))
    gate = Gate(live.verifier, components.identity, live.logins)
    effect = effect_of(token, live.verifier, gate, components.routes.routes, now)
    verdict = judge(token, live.verifier, now) if effect.refused is None else effect.refused
    if arguments.json:
        say(as_json(token, verdict, as_members(steps, effect)))
    else:
        say("\n".join((*as_lines(steps, effect), *verdict.lines)))
    return verdict.accepted


def _read_token(arguments: Namespace) -> bytes:
    given = arguments.token if arguments.token is not None else read_line("token")
    token: bytes = given.strip().encode("utf-8", "surrogateescape")
    scheme, _, rest = token.partition(b" ")
    return rest.strip() if scheme.lower() == b"bearer" else token


async def _with_fetched_keys(settings: Settings, keys: KeyRing, token: bytes) -> KeyRing:
    """Return the keys with those that the issuer of this token publishes, if it is configured.

    Whatever the token says, only configured addresses are asked. A failure is logged.
    """
    _, claims = read(token) or ({}, {})
    issuer, ring = claims.get("iss"), keys
    wanted = structs.replace(
        settings,
        issuer=tuple(each for each in settings.issuer if each.issuer == issuer),
        jwks_url=settings.jwks_url if issuer == settings.jwt_issuer else "",
        state_dir="",  # it belongs to the running sidecar
    )

    def install(name: str, fetched: Sequence[Key]) -> None:
        nonlocal ring
        ring = ring.replaced(name, fetched)

    fetcher = build.make_jwks_fetcher(wanted, install)
    if fetcher is not None:
        tasks = Tasks()
        try:
            await fetcher.start(tasks)
        finally:
            fetcher.stop()
            await tasks.close()
    return ring


async def _write(settings: Settings, grant: Grant) -> None:
    """Write a session to Redis. Raises CommandFailed if that is impossible."""
    settings = structs.replace(settings, state_dir="")  # it belongs to the running sidecar
    metrics = Metrics(())
    credentials = await fetch_credential(settings, metrics)
    store = build.make_store(settings, metrics, build.make_value_mac(settings), credentials)
    try:
        await store.start()
        if store.degraded or not await store.write(grant) or store.degraded:
            raise CommandFailed("the session could not be written to Redis; no token was made")
    finally:
        await store.close()


def _read_ttl(text: str) -> float:
    try:
        value = seconds(text)
    except ValueError:
        value = 0.0
    if value < 1.0:
        raise UsageError(f'--ttl: expected a duration such as 5m or 12h; got "{text}"')
    return value


def _read_claims(arguments: Namespace) -> dict[str, Any]:
    """Return roles, scopes and the other claims. Raises UsageError."""
    claims: dict[str, Any] = {"roles": arguments.role, "scopes": arguments.scope}
    for text in arguments.claim:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f'--claim: expected NAME=VALUE; got "{text}"')
        if name in RESERVED or name in claims:
            raise UsageError(f"--claim: {name} is reserved, or was given before")
        try:
            claims[name] = json.loads(value)
        except (ValueError, RecursionError):
            claims[name] = value
    return claims
