"""The names of the keys in Redis. Pure.

Every name begins with the configured prefix. Names of logins, users and revocations also contain
the realm (issuer and audience), so that applications that share a prefix keep apart. Token and
refresh ids are hashes or tokens, which no two realms share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from sidecar.auth.session import Grant

DEFAULT_PREFIX: Final = "session:"


class GrantKeys(NamedTuple):
    """The keys to which a grant is written."""

    token: bytes
    refresh: bytes
    login: bytes
    user: bytes


class KeyNames:
    """Makes key names. `prefix` precedes every name; `realm` is that of a `ValueMac`."""

    __slots__ = ("_guess", "_login", "_prefix", "_refresh", "_revocation", "_token", "_user")

    def __init__(self, prefix: str, realm: str) -> None:
        self._prefix = prefix
        start, own = prefix.encode(), realm.encode() + b":"
        self._token = start + b"token:"
        self._refresh = start + b"refresh:"
        self._login = start + b"sid:" + own
        self._user = start + b"user:" + own
        self._revocation = start + b"denied:" + own
        self._guess = start + b"guess:"

    def __repr__(self) -> str:
        return f"<KeyNames {self._prefix}*>"

    def token(self, token_id: str | bytes) -> bytes:
        """The key of the session under a token id."""
        return self._token + octets(token_id)

    def refresh(self, refresh_id: str | bytes) -> bytes:
        """The key of a refresh token's record."""
        return self._refresh + octets(refresh_id)

    def login(self, sid: str | bytes) -> bytes:
        """The key of a login's hash."""
        return self._login + octets(sid)

    def user(self, sub: str | bytes) -> bytes:
        """The key of the sorted set of a user's logins."""
        return self._user + octets(sub)

    def of_grant(self, grant: Grant) -> GrantKeys:
        """The keys to which a grant is written; without a refresh token, `refresh` is unused."""
        return GrantKeys(
            self.token(grant.session.id),
            self.refresh(grant.refresh_id or ""),
            self.login(grant.session.sid),
            self.user(grant.session.sub),
        )

    def revocation(self, name: str) -> bytes:
        """The key of a revocation."""
        return self._revocation + name.encode("ascii")

    def guess(self, digest: bytes) -> bytes:
        """The key of counted attempts to log in; the digest depends on the realm."""
        return self._guess + digest.hex().encode()

    @property
    def logins(self) -> bytes:
        """The pattern that matches the keys of this realm's logins, and no others."""
        return self._login + b"*"

    def sid_in(self, key: bytes) -> bytes:
        """The sid in the key of a login."""
        return key[len(self._login) :]

    def token_in(self, key: bytes) -> str | None:
        """The token id in a key; None if it is not the key of a session."""
        if not key.startswith(self._token):
            return None
        return key[len(self._token) :].decode("utf-8", "surrogatepass")

    def revocation_in(self, key: bytes) -> str | None:
        """The revocation's name in a key; None if it is not the key of a revocation."""
        if not key.startswith(self._revocation):
            return None
        return key[len(self._revocation) :].decode("ascii", "replace")


def octets(text: str | bytes) -> bytes:
    """Encode a part of a key. Never fails: a token id may be any text from a client."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
