"""Redis' credential, as it is read from the text of a file or of a command."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.secret import Secret
from sidecar.sessions.redis.credentials import (
    Credential,
    CredentialError,
    CredentialFile,
    PasswordFile,
    parse_credential,
)

PASSWORD = "hunter2-hunter2"


@pytest.mark.parametrize(
    ("text", "username", "password", "lifetime"),
    [
        pytest.param("pw", "alice", "pw", None, id="password"),
        pytest.param("pw\n", "alice", "pw", None, id="line break"),
        pytest.param("pw\r\n", "alice", "pw", None, id="line break of Windows"),
        pytest.param(" p w ", "alice", " p w ", None, id="spaces belong to it"),
        pytest.param("{pw", "alice", "{pw", None, id="not JSON"),
        pytest.param("{1}", "alice", "{1}", None, id="not JSON, closed"),
        pytest.param("[1]", "alice", "[1]", None, id="another JSON value"),
        pytest.param('{"password": "pw"}', "alice", "pw", None, id="object"),
        pytest.param(
            '{\n "username": "bob",\n "password": "pw",\n "expires_in": 900\n}\n',
            *("bob", "pw", 900.0),
            id="object of several lines",
        ),
        pytest.param(
            '{"access_token":"t","expires_in":3599,"token_type":"Bearer"}',
            *("alice", "t", 3599.0),
            id="answer of a token endpoint",
        ),
        pytest.param(
            '{"access_token":"t","expires_in":"86399"}', "alice", "t", 86399.0, id="number as text"
        ),
        pytest.param('{"username": "", "password": "pw"}', "", "pw", None, id="default user"),
    ],
)
def test_what_is_read(text: str, username: str, password: str, lifetime: float | None) -> None:
    """A password on one line, or an object; the configured user is the default."""
    found = parse_credential(text, "alice")
    assert found == (Credential(username, Secret(password)), lifetime)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "expected a password, found nothing", id="empty"),
        pytest.param(" \n", "expected a password, found nothing", id="white space"),
        pytest.param(f"{PASSWORD}\nmore", "expected a password on one line", id="two lines"),
        pytest.param(f"{PASSWORD}\0", "expected a password on one line", id="NUL"),
        pytest.param(f'{{"token": "{PASSWORD}"}}', 'as "password" or "access_token"', id="neither"),
        pytest.param('{"password": ""}', 'as "password" or "access_token"', id="empty password"),
        pytest.param('{"password": 5}', 'as "password" or "access_token"', id="number"),
        pytest.param(
            f'{{"password": "{PASSWORD}", "username": 1}}', 'as "username"', id="user is a number"
        ),
        *(
            pytest.param(
                f'{{"password": "{PASSWORD}", "expires_in": {value}}}',
                'a number of seconds as "expires_in"',
                id=f"expires in {value}",
            )
            for value in ("0", "-1", "true", '"soon"', '"nan"', '"inf"', "[]", "1" + "0" * 400)
        ),
    ],
)
def test_what_is_not_a_credential(text: str, problem: str) -> None:
    """The message says what was expected, and never repeats the text."""
    with pytest.raises(CredentialError) as caught:
        parse_credential(text, "alice")
    assert problem in str(caught.value)
    assert PASSWORD not in str(caught.value) + repr(caught.value)


@given(st.text())
def test_any_text(text: str) -> None:
    """Every text is a credential or a CredentialError."""
    try:
        credential, lifetime = parse_credential(text, "alice")
    except CredentialError:
        return
    assert credential.password
    assert lifetime is None or lifetime > 0


def test_the_arguments_of_auth() -> None:
    """The default user is authenticated by the password alone, which every server accepts."""
    assert Credential("alice", Secret("pw")).arguments() == ("alice", "pw")
    assert Credential("", Secret("pw")).arguments() == ("pw",)


def test_a_credential_is_not_shown() -> None:
    """Its repr has the user only."""
    assert repr(Credential("alice", Secret(PASSWORD))) == (
        "Credential(username='alice', password=Secret('***'))"
    )


async def test_a_file_that_cannot_be_read() -> None:
    """The system's message, or that of the reader."""

    def fail(error: Exception) -> Secret:
        raise error

    gone = FileNotFoundError(2, "No such file or directory", "/run/password")
    source = CredentialFile(lambda: fail(gone), "redis_password_file /run/password")
    with pytest.raises(CredentialError, match="cannot be read: No such file or directory"):
        await source.fetch()
    assert repr(source) == "<CredentialFile redis_password_file /run/password>"
    source = CredentialFile(lambda: fail(ValueError("expected a file of UTF-8 text")), "x")
    with pytest.raises(CredentialError, match="expected a file of UTF-8 text"):
        await source.fetch()


async def test_the_password_of_sentinels() -> None:
    """It is read for each connection. While that fails, the previous one is used."""
    found: list[Secret | Exception] = [Secret("one"), Secret("two"), OSError("gone"), ValueError()]

    def read() -> Secret:
        first = found.pop(0)
        if isinstance(first, Exception):
            raise first
        return first

    provider = PasswordFile(read, "watcher", Secret("zero"))
    given = [await provider.get_credentials_async() for _ in range(4)]
    assert given == [("watcher", each) for each in ("one", "two", "two", "two")]
    assert repr(provider) == "<PasswordFile>"
    assert PasswordFile(lambda: Secret("pw"), "", Secret("")).get_credentials() == ("pw",)
