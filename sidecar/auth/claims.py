"""Reads roles and scopes from the claims of a token or a session.

Owns the claim names and shapes that issuers use. Knows neither where claims come from nor what they
permit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROLES: Final = "roles"
# Names that a user here may be shown under, the best first.
DISPLAY_NAMES: Final = ("preferred_username", "name")
# `scope` is a text (RFC 8693 section 4.2), `scopes` a list (our sessions), and `scp` either (Okta,
# Entra).
SCOPES: Final = ("scope", "scopes", "scp")


def roles_of(claims: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the roles in their order; a text is one role. None if the claim has a wrong type."""
    value = claims.get(ROLES)
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else _words(value)


def scopes_of(claims: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the scopes in their order; a text is split at spaces. None if it has a wrong type."""
    for name in SCOPES:
        value = claims.get(name)
        if value is not None:
            return tuple(value.split()) if isinstance(value, str) else _words(value)
    return ()


def display_name(claims: Mapping[str, Any], subject: str) -> str:
    """Return the name under which a user of this sidecar is known, or else the subject.

    Only for claims that the operator wrote: elsewhere, users choose such names themselves.
    """
    for name in DISPLAY_NAMES:
        value = claims.get(name)
        if isinstance(value, str) and value:
            return value
    return subject


@lru_cache(4096)
def interned_set(names: tuple[str, ...]) -> frozenset[str]:
    """Return the names as a set. Equal sets are one object, because each takes 216 bytes."""
    return frozenset(names)


def claim_matches(value: object, accepted: Iterable[str | int | float | bool]) -> bool:
    """Whether a claim is, or contains, one of the accepted values. True does not equal 1 here."""
    claimed = value if isinstance(value, list) else [value]
    return any(
        each == wanted and isinstance(each, bool) is isinstance(wanted, bool)
        for each in claimed
        for wanted in accepted
    )


def _words(value: object) -> tuple[str, ...] | None:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    return None
