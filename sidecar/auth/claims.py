"""What the claims of a token or a session mean: its roles and its scopes, however they are spelled.

Knows the names and shapes that issuers use; not where claims come from, nor what they permit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROLES: Final = "roles"
# RFC 8693 section 4.2 (`scope`, a text); ours in a session (`scopes`, a list); Okta and Entra
# (`scp`, either).
SCOPES: Final = ("scope", "scopes", "scp")


def roles_of(claims: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The roles, in their order; a text is one role. None when the claim is of another type."""
    value = claims.get(ROLES)
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else _words(value)


def scopes_of(claims: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The scopes, in their order; a text is a list separated by spaces. None as in `roles_of`."""
    for name in SCOPES:
        value = claims.get(name)
        if value is not None:
            return tuple(value.split()) if isinstance(value, str) else _words(value)
    return ()


@lru_cache(4096)
def set_of(names: tuple[str, ...]) -> frozenset[str]:
    """The names as a set, one for all who have the same: each takes 216 bytes by itself."""
    return frozenset(names)


def holds(value: object, accepted: Iterable[str | int | float | bool]) -> bool:
    """Whether a claim is, or lists, one of the accepted values; true is not 1 here."""
    held = value if isinstance(value, list) else [value]
    return any(
        each == one and isinstance(each, bool) is isinstance(one, bool)
        for each in held
        for one in accepted
    )


def _words(value: object) -> tuple[str, ...] | None:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    return None
