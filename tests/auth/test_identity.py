"""Identity headers: all of them are always present, and never say more than the claims."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.claims import roles_of, scopes_of
from sidecar.auth.identity import Identity, IdentityHeaders, encode_value
from tests.auth.forge import unhurried

DEFAULT = IdentityHeaders()


def fields(lines: bytes) -> dict[str, str]:
    """Return the headers in these lines; fail if there is anything else or a repeated header."""
    assert lines.endswith(b"\r\n")
    found = [line.split(": ", 1) for line in lines.decode("ascii")[:-2].split("\r\n")]
    assert len(dict(found)) == len(found)
    return dict(found)


def of_alice(claims: dict[str, Any]) -> Identity:
    """Return an identity with these claims."""
    return Identity(claims, "alice", "alice", "here", "s1", roles_of(claims), scopes_of(claims))


def test_names() -> None:
    """The header names to strip from requests are in lower case with hyphens, all included."""
    six = {
        *(b"x-auth-user", b"x-auth-subject", b"x-auth-issuer"),
        *(b"x-auth-roles", b"x-auth-scopes", b"x-auth-session"),
    }
    assert DEFAULT.names == six
    assert IdentityHeaders({"X_Auth-Email": "email"}).names == six | {b"x-auth-email"}
    assert "x-auth-user" in repr(DEFAULT)


def test_anonymous() -> None:
    """An anonymous request has every header, each of them empty."""
    extra = IdentityHeaders({"X-Email": "email"})
    names = [
        *("X-Auth-User", "X-Auth-Subject", "X-Auth-Issuer"),
        *("X-Auth-Roles", "X-Auth-Scopes", "X-Auth-Session"),
    ]
    assert fields(DEFAULT.anonymous) == dict.fromkeys(names, "")
    assert fields(extra.anonymous) == dict.fromkeys([*names, "X-Email"], "")


def test_all_headers() -> None:
    """Each header contains its part of the identity."""
    claims = {"name": "not used", "roles": ["not used"], "scope": "not used"}
    names = ("Alice A.", "alice", "https://id.example", "s1")
    identity = Identity(claims, *names, ("user", "admin"), ("read", "write"))
    assert fields(DEFAULT.lines(identity)) == {
        "X-Auth-User": "Alice A.",
        "X-Auth-Subject": "alice",
        "X-Auth-Issuer": "https://id.example",
        "X-Auth-Roles": "user,admin",
        "X-Auth-Scopes": "read write",
        "X-Auth-Session": "s1",
    }


@pytest.mark.parametrize(
    ("value", "written"),
    [
        pytest.param("", "", id="empty"),
        pytest.param("a b", "a b", id="inner-space"),
        pytest.param(" a ", "%20a%20", id="spaces-at-the-ends"),
        pytest.param("   ", "%20%20%20", id="only-spaces"),
        pytest.param("a\r\nX-Auth-Roles: admin", "a%0D%0AX-Auth-Roles: admin", id="line-break"),
        pytest.param("\0\x1f\x7f\t", "%00%1F%7F%09", id="control-characters"),
        pytest.param("100%", "100%25", id="percent"),
        pytest.param("%0D", "%250D", id="looks-encoded"),
        pytest.param("Zoë 日", "Zo%C3%AB %E6%97%A5", id="utf-8"),
        pytest.param("\ud800", "%ED%A0%80", id="lone-surrogate"),
        pytest.param("a,b;c\"d\\e'f", "a,b;c\"d\\e'f", id="punctuation"),
    ],
)
def test_encoding(value: str, written: str) -> None:
    """Characters that could break a value are percent-encoded; other visible ones stay readable."""
    assert encode_value(value) == written


def test_items_cannot_be_forged() -> None:
    """A role with a comma stays one role, and a scope with a space stays one scope."""
    claims = {"roles": ["user,admin", "a b", " c"], "scope": ["read write", "x,y"]}
    seen = fields(DEFAULT.lines(of_alice(claims)))
    assert seen["X-Auth-Roles"] == "user%2Cadmin,a b,%20c"
    assert seen["X-Auth-Scopes"] == "read%20write x,y"


@pytest.mark.parametrize(
    ("claim", "written"),
    [
        pytest.param("a b", "a b", id="text"),
        pytest.param("", "", id="empty"),
        pytest.param(None, "", id="null"),
        pytest.param(7, "7", id="number"),
        pytest.param(0, "0", id="zero"),
        pytest.param(1.5, "1.5", id="float"),
        pytest.param(True, "true", id="true"),
        pytest.param(False, "false", id="false"),
        pytest.param(["a", "b,c", 7, None], "a,b%2Cc,7,", id="list"),
        pytest.param({"a": "ä%", "b": [1]}, '{"a":"\\u00e4%25","b":[1]}', id="object"),
    ],
)
def test_configured_header(claim: object, written: str) -> None:
    """Any claim can have its own header, whatever its type."""
    headers = IdentityHeaders({"X-Extra": "extra"})
    assert fields(headers.lines(of_alice({"extra": claim})))["X-Extra"] == written


def test_configured_path() -> None:
    """A header can have a claim that is inside another, or whose name is a URL."""
    headers = IdentityHeaders(
        {
            "X-City": "address.city",
            "X-Tenant": "/https:~1~1example.com~1tenant",
            "X-Plan": "https://example.com/plan",
            "X-Groups": "realm_access.roles",
            "X-None": "address.zip",
        }
    )
    claims = {
        "address": {"city": "Köln"},
        "https://example.com/tenant": "acme",
        "https://example.com/plan": 7,
        "realm_access": {"roles": ["a", "b"]},
    }
    seen = fields(headers.lines(of_alice(claims)))
    assert [seen[f"X-{name}"] for name in ("City", "Tenant", "Plan", "Groups", "None")] == [
        *("K%C3%B6ln", "acme", "7", "a,b", "")
    ]


def test_bad_path() -> None:
    """A path that can name nothing is refused."""
    with pytest.raises(ValueError, match="JSON pointer"):
        IdentityHeaders({"X-A": "/~"})


def test_configured_subject() -> None:
    """Subject, session and issuer can have another header, and no claim replaces them."""
    headers = IdentityHeaders({"Remote-User": "sub", "X-Sid": "sid", "X-Iss": "iss"})
    seen = fields(headers.lines(of_alice({"sub": "mallory", "iss": "https://evil.example"})))
    assert (seen["Remote-User"], seen["X-Sid"], seen["X-Iss"]) == ("alice", "s1", "here")


def test_default_replaced() -> None:
    """A configured header replaces the default one of the same name, in any spelling."""
    headers = IdentityHeaders({"x_auth_user": "email"})
    seen = fields(headers.lines(of_alice({"email": "a@example.org"})))
    assert len(seen) == 6
    assert seen["x_auth_user"] == "a@example.org"


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"": "a"}, id="empty"),
        pytest.param({"X Y": "a"}, id="space"),
        pytest.param({"X:": "a"}, id="colon"),
        pytest.param({"X\r\nY": "a"}, id="line-break"),
        pytest.param({"X\n": "a"}, id="line-feed-at-the-end"),
        pytest.param({"Ä": "a"}, id="not-ascii"),
        pytest.param({"-x": "a"}, id="hyphen-first"),
        pytest.param({"Host": "a"}, id="host"),
        pytest.param({"content_length": "a"}, id="content-length"),
        pytest.param({"Authorization": "a"}, id="authorization"),
        pytest.param({"X-Forwarded-For": "a"}, id="forwarded"),
        pytest.param({"X-Email": "a", "x_email": "b"}, id="twice"),
    ],
)
def test_bad_name(extra: dict[str, str]) -> None:
    """A name that is invalid, reserved or repeated is refused."""
    with pytest.raises(ValueError, match="header name"):
        IdentityHeaders(extra)


@unhurried
@given(st.text(), st.lists(st.text(min_size=1)), st.lists(st.text(min_size=1)))
def test_any_values_come_back(subject: str, roles: list[str], scopes: list[str]) -> None:
    """Any claims give exactly six header lines, which decode to the same claims."""
    identity = Identity(
        {}, subject, subject, subject, "s1", roles=tuple(roles), scopes=tuple(scopes)
    )
    lines = DEFAULT.lines(identity)
    assert set(lines) <= set(range(0x20, 0x7F)) | set(b"\r\n")
    seen = fields(lines)
    names = ("X-Auth-User", "X-Auth-Subject", "X-Auth-Issuer")
    assert [unquote(seen[name]) for name in names] == [subject] * 3
    assert [unquote(role) for role in seen["X-Auth-Roles"].split(",") if role] == roles
    assert [unquote(scope) for scope in seen["X-Auth-Scopes"].split(" ") if scope] == scopes
    assert all(value == value.strip() for value in seen.values())
