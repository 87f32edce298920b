"""The users file: TOML, read into an immutable table that a reload replaces as a whole.

Parsing reports all problems at once, and only `load_users` reads a file. Checks no passwords.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.api.passwords import decoy, hash_password, is_supported
from sidecar.auth.claims import ROLES
from sidecar.auth.issue import RESERVED
from sidecar.errors import ConfigError, Problem
from sidecar.toml import parse_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_KEYS: Final = ("name", "password_hash", "roles", "scopes", "claims", "disabled")
_MAX_CLAIMS: Final = 4096  # bytes: a token with more would be refused for its length
_NAME = re.compile(r"[^\x00-\x20\x7f-\xa0](?:[^\x00-\x1f\x7f-\x9f]{0,253}[^\x00-\x20\x7f-\xa0])?")
_WORD = re.compile(r"[^\s\x00-\x1f\x7f-\x9f,]{1,255}")  # listed in a header


@dataclass(frozen=True, slots=True)
class User:
    """One user; `claims` has `roles`, `scopes` and all other claims, as a token carries them."""

    name: str
    password_hash: str = field(repr=False)
    claims: Mapping[str, Any]
    disabled: bool = False


class Users:
    """Users by name. An unknown name gets a decoy hash, as costly to check as a real user's.

    `configured` is false where there is no users file: then the table says nothing about anybody.
    """

    __slots__ = ("_by_name", "_decoys", "configured")

    def __init__(self, users: Iterable[User] = (), *, configured: bool = True) -> None:
        self.configured = configured
        self._by_name = MappingProxyType({user.name: user for user in users})
        costs = [user.password_hash for user in self] or [hash_password("")]
        self._decoys = tuple(map(decoy, costs))

    def __repr__(self) -> str:
        return f"<Users {len(self)}>"

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[User]:
        return iter(self._by_name.values())

    def find(self, name: str) -> User | None:
        """The user with exactly this name, even a disabled one."""
        return self._by_name.get(name)

    def claims_of(self, name: str) -> Mapping[str, Any] | None:
        """The user's roles, scopes and other claims; None for a removed or disabled user."""
        user = self._by_name.get(name)
        return None if user is None or user.disabled else user.claims

    def ended_by(self, later: Users) -> list[str]:
        """The names of users whose logins end when the table is replaced by `later`.

        They are removed or disabled there, or have another password: a login with the old one may
        be a thief's.
        """
        return [user.name for user in self if _ends(user, later.find(user.name))]

    def hash_of(self, name: str) -> str:
        """The hash to check a password against: the user's, or the decoy of an unknown name."""
        user = self._by_name.get(name)
        if user is not None:
            return user.password_hash
        digest = hashlib.sha256(name.encode()).digest()
        return self._decoys[int.from_bytes(digest[:8]) % len(self._decoys)]


def _ends(user: User, later: User | None) -> bool:
    if later is None or later.password_hash != user.password_hash:
        return True
    return later.disabled and not user.disabled


def load_users(path: Path) -> Users:
    """Read a users file. Raises ConfigError with every problem in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError([Problem(str(path), f"cannot be read: {reason}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(str(path), "expected UTF-8 text")]) from error
    return parse_users(text, str(path))


def parse_users(text: str, source: str) -> Users:
    """The users of a TOML text; `source` names it. Raises ConfigError with every problem in it."""
    try:
        document = parse_toml(text)
    except ValueError as error:
        raise ConfigError([Problem(source, f"expected TOML: {error}")]) from error
    problems = [
        Problem(f"{source}: {key}", "expected only [[user]] tables")
        for key in sorted(document.keys() - {"user"})
    ]
    entries = document.get("user", [])
    if not isinstance(entries, list):
        raise ConfigError(
            [*problems, Problem(f"{source}: user", "expected [[user]] tables, one for each user")]
        )
    users: dict[str, User] = {}
    for number, entry in enumerate(entries, start=1):
        reader = _Entry(entry, f"{source}: [[user]] {number}", problems)
        user = reader.read()
        if user.name in users:
            reader.problem("name", f"expected a unique name; {user.name!r} is taken")
        users[user.name] = user
    if problems:
        raise ConfigError(problems)
    return Users(users.values())


class _Entry:
    """Reads one `[[user]]` table. Adds each problem to `problems` and continues."""

    __slots__ = ("_entry", "_problems", "_where")

    def __init__(self, entry: object, where: str, problems: list[Problem]) -> None:
        self._entry: dict[str, Any] = entry if isinstance(entry, dict) else {}
        name = self._entry.get("name")
        self._where = (
            f"{where} ({name})" if isinstance(name, str) and _NAME.fullmatch(name) else where
        )
        self._problems = problems

    def problem(self, key: str, message: str) -> None:
        self._problems.append(Problem(f"{self._where}.{key}", message))

    def read(self) -> User:
        for key in sorted(self._entry.keys() - set(_KEYS)):
            self.problem(key, f"expected one of the keys {', '.join(_KEYS)}")
        claims = {"roles": self._words("roles"), "scopes": self._words("scopes"), **self._claims()}
        if len(msgspec.json.encode(claims)) > _MAX_CLAIMS:
            self.problem(
                "claims",
                f"expected at most {_MAX_CLAIMS} bytes of JSON, including roles and scopes",
            )
        return User(
            name=self._text("name", _is_name, "a name without control characters, 1 to 255 long"),
            password_hash=self._text(
                "password_hash",
                is_supported,
                "an argon2id hash as printed by `sidecar hash-password`",
            ),
            claims=MappingProxyType(claims),
            disabled=self._flag("disabled"),
        )

    def _text(self, key: str, valid: Callable[[str], bool], expected: str) -> str:
        value = self._entry.get(key)
        if isinstance(value, str) and valid(value):
            return value
        self.problem(key, f"expected {expected}")
        return ""

    def _words(self, key: str) -> list[str]:
        value = self._entry.get(key, [])
        if isinstance(value, list) and all(
            isinstance(w, str) and _WORD.fullmatch(w) for w in value
        ):
            return value
        self.problem(key, "expected a list of words without white space or commas")
        return []

    def _flag(self, key: str) -> bool:
        value = self._entry.get(key, False)
        if isinstance(value, bool):
            return value
        self.problem(key, "expected true or false")
        return True

    def _claims(self) -> dict[str, Any]:
        value = self._entry.get("claims", {})
        if not isinstance(value, dict):
            self.problem("claims", "expected a table of claims")
            return {}
        for name, claim in value.items():
            if name in RESERVED or name == ROLES:
                message = "expected a name other than those of claims that the sidecar sets"
                self.problem(f"claims.{name}", message)
            elif not _is_json(claim):
                message = "expected a string, number, boolean, list or table"
                self.problem(f"claims.{name}", message)
                return {}
        return value


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def _is_json(value: object) -> bool:
    """Whether a TOML value can be written as JSON: not a date, not an infinity."""
    if isinstance(value, Mapping):
        return all(map(_is_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int | bool)
