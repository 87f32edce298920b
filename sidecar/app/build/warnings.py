"""Finds configurations that are valid but let nobody in, or everybody: all warnings as one list.

A warning that takes more than settings is a function here, listed in `FINDERS`.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from unicodedata import normalize

from sidecar.app.build.components import make_rules
from sidecar.auth.neighbours import neighbours
from sidecar.errors import ConfigWarning
from sidecar.settings import find_warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sidecar.app.build.components import Components
    from sidecar.settings import Settings

logger = logging.getLogger("sidecar.config")

SOON: Final = 7 * 86400.0  # seconds; the alert SidecarCertificateEnds has the same limit
# The users of config/users.toml. Their passwords are in the documentation.
DEMO_HASHES: Final = frozenset(
    {
        "$argon2id$v=19$m=19456,t=2,p=1$uTXCoY+T7f2BYZe6bFegcQ$Y+cXdyg9DhdSzp67OcHg2xXOrkmYv/ybJ7bSY20B704",
        "$argon2id$v=19$m=19456,t=2,p=1$6x8fR0Ux83qNaLRLkS0DkA$N9db66XkxgRasyCzZQOrLmO7dobZH8I56Z6rD+hvZxI",
    }
)


def config_warnings(
    settings: Settings, components: Components, now: float
) -> tuple[ConfigWarning, ...]:
    """Return every warning about the settings and the files that they name.

    `now` is in seconds since the epoch.
    """
    found = list(find_warnings(settings))
    for find in FINDERS:
        found += find(settings, components, now)
    return tuple(found)


def log_warnings(warnings: Iterable[ConfigWarning]) -> None:
    """Log each warning, with its place and the way out beside the message."""
    for each in warnings:
        logger.warning(
            "%s: %s", each.where, each.message, extra={"setting": each.where, "remedy": each.remedy}
        )


def _users(settings: Settings, components: Components, _: float) -> Iterator[ConfigWarning]:
    users = list(components.users)
    if settings.users_file and all(user.disabled for user in users):
        yield ConfigWarning(
            f"users_file {settings.users_file}",
            "nobody can log in, because the file has no user who is not disabled",
            "add a [[user]] with a password_hash from: sidecar hash-password",
        )
    for user in users:
        if user.password_hash in DEMO_HASHES and not user.disabled:
            yield ConfigWarning(
                f"users_file {settings.users_file}",
                f"anyone can log in as {user.name}, because the password is that of the demo",
                "replace its password_hash with one from: sidecar hash-password",
            )


def _similar_users(settings: Settings, components: Components, _: float) -> Iterator[ConfigWarning]:
    """Names that applications and their databases often compare as equal."""
    known: dict[str, str] = {}
    for user in components.users:
        folded = normalize("NFKC", normalize("NFKC", user.name).casefold())
        other = known.setdefault(folded, user.name)
        if other != user.name:
            yield ConfigWarning(
                f"users_file {settings.users_file}",
                f"an application may take {other!a} and {user.name!a} for one user, because the "
                "names differ only in case or in their Unicode form",
                "rename one of them",
            )


def _certificates(_: Settings, components: Components, now: float) -> Iterator[ConfigWarning]:
    for name, expiry in components.expiries.items():
        date = f"{datetime.fromtimestamp(expiry, UTC):%Y-%m-%d %H:%M} UTC"
        if expiry <= now:
            yield ConfigWarning(
                name, f"the certificate expired at {date}; peers reject it", "replace the file"
            )
        elif expiry - now < SOON:
            yield ConfigWarning(
                name, f"the certificate expires at {date}", "replace the file before that"
            )


def _neighbours(settings: Settings, _: Components, __: float) -> Iterator[ConfigWarning]:
    yield from neighbours(make_rules(settings))


# Each takes the settings, what was made from them, and the time.
FINDERS: Final[tuple[Callable[[Settings, Components, float], Iterator[ConfigWarning]], ...]] = (
    _users,
    _similar_users,
    _certificates,
    _neighbours,
)
