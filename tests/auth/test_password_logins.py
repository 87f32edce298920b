"""What the users file says about logins: for sessions, for refresh records and for tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from sidecar.auth.issue import Issuer
from sidecar.auth.keys import KeyRing
from sidecar.auth.password_logins import PasswordLogins
from sidecar.auth.session import FOREIGN, PASSWORD, Session, foreign_session, token_id
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import IssuerConfig, Verifier
from sidecar.auth.verified import Verified
from tests.auth.forge import AUDIENCE, ISSUER, NOW, REFRESH_SECRET, SECRET

if TYPE_CHECKING:
    from collections.abc import Mapping

AT_LOGIN: Final = {"roles": ["admin"], "scopes": ["read"], "tenant": "acme"}
NOW_IN_FILE: Final = {"roles": ["user"], "scopes": ["write", "list"], "level": 3}
KEY: Final = secret_key(ISSUER, SECRET)
OWN: Final = Issuer(KEY, secret_key(ISSUER, REFRESH_SECRET), issuer=ISSUER, audience=AUDIENCE)
CONFIG: Final = IssuerConfig(issuer=ISSUER)
VERIFIER: Final = Verifier([CONFIG], KeyRing([KEY]), CONFIG)


class Table:
    """The users of a users file."""

    def __init__(self, **claims: Mapping[str, Any]) -> None:
        self._claims = claims

    def claims_of(self, name: str) -> Mapping[str, Any] | None:
        """Return a user's claims."""
        return self._claims.get(name)


USERS: Final = Table(alice=NOW_IN_FILE)


def token(method: str = PASSWORD, subject: str = "alice") -> tuple[bytes, Verified]:
    """Return an access token of a login that began by this method, and its contents."""
    text = OWN.access(subject, "s1", AT_LOGIN, NOW, "t1", method=method).encode()
    verified = VERIFIER.verify_access(text, NOW)
    assert isinstance(verified, Verified)
    return text, verified


def session(method: str, credential: bytes = b"x") -> Session:
    """Return the session of a login of alice that began by this method."""
    return Session(
        id=token_id(credential),
        sid="s1",
        sub="alice",
        claims=AT_LOGIN,
        created=NOW,
        exp=NOW + 900,
        method=method,
    )


@pytest.mark.parametrize(
    ("logins", "method", "sub", "claims"),
    [
        pytest.param(PasswordLogins(USERS), PASSWORD, "alice", NOW_IN_FILE, id="user"),
        pytest.param(PasswordLogins(USERS), PASSWORD, "bob", None, id="unknown-user"),
        pytest.param(PasswordLogins(USERS), "oidc", "bob", AT_LOGIN, id="other-login"),
        pytest.param(PasswordLogins(USERS), FOREIGN, "", AT_LOGIN, id="foreign"),
        pytest.param(PasswordLogins(), PASSWORD, "bob", AT_LOGIN, id="no-users-file"),
        pytest.param(PasswordLogins(Table()), PASSWORD, "alice", None, id="empty-users-file"),
    ],
)
def test_claims(
    logins: PasswordLogins, method: str, sub: str, claims: Mapping[str, Any] | None
) -> None:
    """A password login has the claims of its user now; any other login, those that it states."""
    assert logins.present_claims(method, sub, AT_LOGIN) == claims


@pytest.mark.parametrize(
    ("said", "kept", "governed"),
    [
        pytest.param(PASSWORD, None, True, id="token-says-so"),
        pytest.param(PASSWORD, FOREIGN, True, id="token-says-so-beside-foreign-session"),
        pytest.param("", PASSWORD, True, id="session-says-so"),
        pytest.param("", None, False, id="minted"),
        pytest.param("", "mint", False, id="minted-with-session"),
        pytest.param("oidc", "oidc", False, id="other-login"),
    ],
)
def test_claims_of_a_token(said: str, kept: str | None, *, governed: bool) -> None:
    """Token or session can say that the login began with a password; then the file counts."""
    text, verified = token(said)
    live = None if kept is None else session(kept, text)
    if kept == FOREIGN:
        live = foreign_session(token_id(text))
    stated = verified.claims
    claims = PasswordLogins(USERS, ISSUER).token_claims(verified, stated, live)
    if not governed:
        assert claims is stated
        return
    assert claims is not None
    about_user = {"roles": ["user"], "scope": "write list", "level": 3}
    about_token = {name: stated[name] for name in ("iss", "sub", "sid", "jti", "aud", "iat", "exp")}
    assert claims.items() >= (about_user | about_token).items()
    assert claims.get("amr") == stated.get("amr")
    assert "tenant" not in claims
    assert PasswordLogins(Table(), ISSUER).token_claims(verified, stated, live) is None
    assert PasswordLogins(None, ISSUER).token_claims(verified, stated, live) is stated


def test_unchanged_claims_have_the_same_form() -> None:
    """With the claims of the login, the result is encoded exactly as in the token."""
    _, verified = token()
    logins = PasswordLogins(Table(alice=AT_LOGIN), ISSUER)
    claims = logins.token_claims(verified, verified.claims, None)
    assert msgspec.json.encode(claims) == verified.payload


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"iss": "https://id.example"}, id="other-issuer"),
        pytest.param({"client_id": "another"}, id="other-client"),
        pytest.param({"amr": ["pwd", "otp"]}, id="other-proof"),
        pytest.param({"amr": "pwd"}, id="not-a-list"),
    ],
)
def test_tokens_that_were_made_elsewhere(changed: dict[str, Any]) -> None:
    """An identity provider's users are its own, even if they used a password there."""
    _, verified = token()
    stated = verified.claims | changed
    local = stated["iss"] == ISSUER
    verified = msgspec.structs.replace(verified, issuer=stated["iss"], local=local)
    claims = PasswordLogins(Table(), ISSUER).token_claims(verified, stated, None)
    assert claims is stated


def test_repr() -> None:
    """The representation names the users' table."""
    assert repr(PasswordLogins()) == "<PasswordLogins of None>"
