"""Redis' password from a file, read for each connection, so that rotation needs no restart."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from redis.credentials import CredentialProvider

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.secret import Secret


class PasswordFile(CredentialProvider):
    """Provides the password that `read` returns.

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
        password = self._password.reveal()
        return (self.username, password) if self.username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """The user name, if one is set, and the password. Reads the file without a thread."""
        return self.get_credentials()
