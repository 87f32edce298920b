"""Reads roles and scopes from the claims of a token or a session.

Owns the claim names and shapes that issuers use. Knows neither where claims come from nor what they
permit. What has an unusual shape gives no role and no scope: it never refuses a token.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sidecar.claim_path import ClaimPath

Scalar = str | int | float | bool

ROLES: Final = "roles"
# Names that a user here may be shown under, the best first.
DISPLAY_NAMES: Final = ("preferred_username", "name")
# `scope` is a text (RFC 8693 section 4.2), `scopes` a list (our sessions), and `scp` either (Okta,
# Entra).
SCOPES: Final = ("scope", "scopes", "scp")
# What names a role that is an object: in Spring Security, SCIM (RFC 7643 section 2.4, which RFC
# 9068 section 2.2.3.1 uses), and elsewhere. The first that the object has counts.
NAMING: Final = ("authority", "value", "name", "role")

# Of a set that is kept: 4,096 sets then take 10 MB at most
_KEPT_NAMES: Final = 16
_KEPT_CHARACTERS: Final = 512
_EXACT: Final = 1 << 53  # whole numbers up to here have one value in every JSON reader


def roles_of(claims: Mapping[str, Any], paths: Sequence[ClaimPath] = ()) -> tuple[str, ...]:
    """Return the roles in their order: those at all of `paths`, or else the claim `roles`."""
    if paths:
        found = (name for path in paths for name in _role_names(path.find(claims)))
        return tuple(dict.fromkeys(found))
    return _role_names(claims.get(ROLES))


def scopes_of(claims: Mapping[str, Any], paths: Sequence[ClaimPath] = ()) -> tuple[str, ...]:
    """Return the scopes in their order: those at all of `paths`.

    Without paths, those of the first claim in `SCOPES` that has any.
    """
    if paths:
        found = (name for path in paths for name in _scope_names(path.find(claims)))
        return tuple(dict.fromkeys(found))
    for claim in SCOPES:
        if claim in claims and (scopes := _scope_names(claims[claim])):
            return scopes
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


def interned_set(names: tuple[str, ...]) -> frozenset[str]:
    """Return the names as a set. Equal small sets are one object, because each takes 216 bytes."""
    if len(names) <= _KEPT_NAMES and sum(map(len, names)) <= _KEPT_CHARACTERS:
        return _interned_set(names)
    return frozenset(names)


@lru_cache(4096)
def _interned_set(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(names)


def claim_matches(value: object, accepted: Iterable[Scalar]) -> bool:
    """Whether a claim is, or contains, one of the accepted values. True does not equal 1 here."""
    claimed = value if isinstance(value, list) else [value]
    return any(
        each == wanted and isinstance(each, bool) is isinstance(wanted, bool)
        for each in claimed
        for wanted in accepted
    )


def number_text(number: int | float) -> str:  # noqa: PYI041 (compiled, float would round an int)
    """Return a number as text: 7 and 7.0, which are equal in JSON, as "7"."""
    if isinstance(number, float) and number.is_integer() and abs(number) <= _EXACT:
        return str(int(number))
    return str(number)


def _role_names(value: object) -> tuple[str, ...]:
    """Return the names in a claim. A text has several: separated by commas, or else by spaces."""
    if isinstance(value, str):
        parts = value.split(",") if "," in value else value.split()
        return tuple(filter(None, map(str.strip, parts)))
    return _listed_names(value)


def _scope_names(value: object) -> tuple[str, ...]:
    """Return the names in a claim. Only spaces separate those of a text (RFC 6749 section 3.3).

    A comma is part of a scope. Where clients may ask for `file:*`, one that asks for `file:x,admin`
    must not get `admin`.
    """
    return tuple(value.split()) if isinstance(value, str) else _listed_names(value)


def _listed_names(value: object) -> tuple[str, ...]:
    """Return the names in a list, or a number as the only one. A text in a list is one name."""
    items = value if isinstance(value, list) else [value]
    if isinstance(value, dict):  # only in a list: alone, it may be anything
        return ()
    return tuple(filter(None, map(_name, items)))


def _name(item: object) -> str:
    if isinstance(item, dict):
        item = next((item[each] for each in NAMING if each in item), None)
    if isinstance(item, str):
        return item
    if isinstance(item, int | float) and not isinstance(item, bool):
        return number_text(item)
    return ""
