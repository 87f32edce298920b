"""Redis' user and password, and how they are read from a text: of a file, or of a command's output.

A text is a password on one line, or a JSON object. Knows no connections and no settings. No message
contains a part of the text.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis.credentials import CredentialProvider

from sidecar.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_INTERVAL: Final = 1.0  # seconds between two reads of a file


class CredentialError(Exception):
    """There is no usable credential. The message says why, without a part of it."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A user of Redis and its password. An empty `username` is the default user."""

    username: str
    password: Secret

    def arguments(self) -> tuple[str] | tuple[str, str]:
        """The arguments of AUTH."""
        password = self.password.reveal()
        return (self.username, password) if self.username else (password,)


def parse_credential(text: str, username: str) -> tuple[Credential, float | None]:
    """Read a credential, and for how many seconds from now it is valid, if the text says so.

    A JSON object has `password` or `access_token`, and may have `username` and `expires_in` (a
    number of seconds), as the answer of an OAuth token endpoint has (RFC 6749 section 5.1). Every
    other text is the password itself, without its last line break. `username` is the user if the
    text names none. Raises CredentialError.
    """
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise CredentialError("expected a password, found nothing")
    fields = _json_object(text)
    if fields is None:
        if not text.isprintable():
            raise CredentialError("expected a password on one line, or a JSON object")
        return Credential(username, Secret(text)), None
    password = fields.get("password", fields.get("access_token"))
    if not isinstance(password, str) or not password:
        raise CredentialError('expected a text as "password" or "access_token" of the JSON object')
    user = fields.get("username", username)
    if not isinstance(user, str):
        raise CredentialError('expected a text as "username" of the JSON object')
    return Credential(user, Secret(password)), _lifetime(fields.get("expires_in"))


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        fields = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _lifetime(value: object) -> float | None:
    """Seconds. Some token endpoints write the number as a text."""
    if value is None:
        return None
    with suppress(ValueError, OverflowError):
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            seconds = float(value)
            if math.isfinite(seconds) and seconds > 0:
                return seconds
    raise CredentialError('expected a number of seconds as "expires_in" of the JSON object')


class CredentialFile:
    """A file with the credential, which `read` returns. It is read often, as that costs little.

    `read` raises OSError or ValueError, whose message has no secret. `name` says in logs what it
    is.
    """

    interval = _POLL_INTERVAL
    fetched_on_connect = True

    def __init__(self, read: Callable[[], Secret], name: str) -> None:
        self._read = read
        self.name = name

    def __repr__(self) -> str:
        return f"<CredentialFile {self.name}>"

    async def fetch(self) -> str:
        """The file's text. Raises CredentialError. Reads the file without a thread."""
        try:
            return self._read().reveal()
        except OSError as error:
            raise CredentialError(f"cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise CredentialError(str(error)) from None


class PasswordFile(CredentialProvider):
    """Provides the password that `read` returns to each new connection.

    If `read` fails, it provides the previous password: a file that is being replaced does not cause
    an outage.
    """

    def __init__(self, read: Callable[[], Secret], username: str, password: Secret) -> None:
        self._read = read
        self.username = username
        self._password = password

    def __repr__(self) -> str:
        return "<PasswordFile>"

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """The user name, if one is set, and the password."""
        with suppress(OSError, ValueError):
            self._password = self._read()
        return Credential(self.username, self._password).arguments()

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """The user name, if one is set, and the password. Reads the file without a thread."""
        return self.get_credentials()
