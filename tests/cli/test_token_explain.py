"""`sidecar token explain`: what a sidecar makes of a token, step by step, and why."""

from __future__ import annotations

import asyncio
import io
import json
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.asymmetric import pem_key
from sidecar.auth.keys import KeyRing
from sidecar.auth.reason import Reason
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import FOREIGN_TYPES, IssuerConfig, Verifier
from sidecar.auth.verified import SessionMode
from sidecar.claim_path import ClaimPath
from sidecar.cli import main
from sidecar.cli.token_steps import Step, steps_of
from tests.auth import forge
from tests.auth.forge import GONE, NOW
from tests.auth.providers import ACCESS_TOKENS, ID_TOKENS, OTHER_TOKENS
from tests.cli.conftest import SECRETS
from tests.peers.key_server import KeyServer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Output = pytest.CaptureFixture[str]

THEIRS: Final = "https://id.example"
FOREIGN: Final = IssuerConfig(
    issuer=THEIRS,
    audiences=frozenset(("app",)),
    types=FOREIGN_TYPES,
    session_mode=SessionMode.DENYLIST,
    foreign=True,
    claims=((ClaimPath("org.id"), ("acme", 7)),),
    subject_claim=ClaimPath("oid"),
    user_claim=ClaimPath("email"),
    roles_claims=(ClaimPath("realm_access.roles"), ClaimPath("groups")),
)
OWN: Final = IssuerConfig(issuer=forge.ISSUER, audiences=frozenset((forge.AUDIENCE,)))
SHARED: Final = IssuerConfig(
    issuer="shared", types=FOREIGN_TYPES, foreign=True, subject_claim=ClaimPath("oid")
)
VERIFIER: Final = Verifier(
    [OWN, FOREIGN],
    KeyRing(
        [
            secret_key(forge.ISSUER, forge.SECRET),
            pem_key(THEIRS, forge.public_pem(forge.private_key("ES256")), kid=""),
        ]
    ),
    OWN,
)
GOOD: Final[Mapping[str, Any]] = {
    "iss": THEIRS,
    "aud": ["app", "other"],
    "oid": 7,
    "email": "a@example.org",
    "org": {"id": "acme"},
    "realm_access": {"roles": ["user"]},
    "groups": [{"name": "g"}],
}


def explained(claims: Mapping[str, Any], **header: Any) -> dict[str, Step]:
    """Return the steps for a token of the foreign issuer with these changes, by name."""
    token = forge.token({**GOOD, **claims}, header, alg="ES256")
    return {step.name: step for step in steps_of(token, VERIFIER, NOW)}


def test_a_good_token() -> None:
    """Each step says what was found and where it comes from."""
    steps = explained({})
    assert {name: step.detail for name, step in steps.items() if name not in {"size", "form"}} == {
        "issuer": f'"{THEIRS}": another service\'s',
        "kind": 'an access token; "typ" is "at+jwt"',
        "key": '"ES256", no kid: a known key made the signature',
        "audience": 'aud is ["app", "other"]; expected "app"',
        "claims": 'org.id is "acme"; expected "acme" or 7',
        "times": "expires in 15m (leeway 5 s)",
        "subject": '"7", from oid',
        "user": '"a@example.org", from email',
        "roles": '"user", "g", from realm_access.roles, groups',
        "scopes": '"read", "write", from scope',
        "session": "not needed, but the token may have been revoked; not looked up here",
    }
    assert {step.passed for step in steps.values()} == {True, None}


@pytest.mark.parametrize(
    ("claims", "step", "detail"),
    [
        pytest.param({"aud": "x"}, "audience", 'aud is "x"; expected "app"', id="audience"),
        pytest.param({"aud": GONE}, "audience", 'aud is absent; expected "app"', id="no-audience"),
        pytest.param({"org": {}}, "claims", "org.id is absent; expected", id="claims"),
        pytest.param({"exp": NOW - 60}, "times", "expired 1m ago (leeway 5 s)", id="expired"),
        pytest.param({"iat": NOW + 60}, "times", "valid only in 1m", id="issued-ahead"),
        pytest.param({"nbf": NOW + 60}, "times", "valid only in 1m", id="not-before"),
        pytest.param({"exp": GONE}, "times", "claim_missing: ", id="no-expiry"),
        pytest.param({"exp": "soon"}, "times", "claim_invalid: ", id="expiry-is-a-text"),
        pytest.param({"sid": 7}, "ids", '"sid" or "jti" is no text', id="session-id"),
        pytest.param({"oid": GONE}, "subject", "oid is absent: claim_missing: ", id="subject"),
        pytest.param({"oid": [7]}, "subject", "oid is [7]: claim_invalid: ", id="odd-subject"),
        pytest.param({"email": GONE}, "user", "email is absent: claim_missing: ", id="user"),
        pytest.param({"at_hash": "h"}, "kind", "id_token: it is an ID token", id="id-token"),
    ],
)
def test_a_step_that_refuses(claims: dict[str, Any], step: str, detail: str) -> None:
    """What is wrong is the one step that refuses; the other steps are explained as well."""
    steps = explained(claims)
    assert [name for name, each in steps.items() if each.passed is False] == [step]
    assert steps[step].detail.startswith(detail)
    assert "session" in steps


def test_everything_wrong_at_once() -> None:
    """One report shows all problems, unlike the verdict, which has the first."""
    steps = explained({"aud": "x", "exp": 1, "oid": GONE, "org": 7}, kid=7)
    refused = {name for name, each in steps.items() if each.passed is False}
    assert refused == {"key", "audience", "claims", "times", "subject"}


@pytest.mark.parametrize(
    ("claims", "roles", "scopes"),
    [
        pytest.param(
            {"realm_access": {"roles": {"a": 1}}, "groups": GONE, "scope": ""},
            'none: realm_access.roles is {"a": 1}, groups is absent',
            'none: scope is "", scopes is absent, scp is absent',
            id="none",
        ),
        pytest.param(
            {"groups": GONE, "scope": "", "scp": ["a"], "scopes": []},
            '"user", from realm_access.roles',
            '"a", from scp',
            id="first-that-has-any",
        ),
        pytest.param(
            {"groups": [f"g{number}" for number in range(30)], "scope": "a", "scp": "b"},
            '"g18" and 11 more, from realm_access.roles, groups',
            '"a", from scope',
            id="many",
        ),
    ],
)
def test_roles_and_scopes(claims: dict[str, Any], roles: str, scopes: str) -> None:
    """Roles and scopes are shown with the claims that gave them, or why there are none."""
    steps = explained(claims)
    assert steps["roles"].detail.endswith(roles)
    assert steps["scopes"].detail == scopes


@pytest.mark.parametrize(
    ("token", "last", "detail"),
    [
        pytest.param(b"opaque", "form", "it is not a JWT", id="opaque"),
        pytest.param(b"x" * 17_000, "form", "it is not a JWT", id="too-long"),
        pytest.param(
            forge.token({"iss": "\x1b[2J"}),
            "issuer",
            f'"\\u001b[2J" is not one of "{forge.ISSUER}", "{THEIRS}"',
            id="unknown-issuer",
        ),
        pytest.param(forge.token({"iss": GONE}), "issuer", "null is not one of", id="no-issuer"),
    ],
)
def test_where_explaining_ends(token: bytes, last: str, detail: str) -> None:
    """A token that cannot be read, or whose issuer is unknown, has no further steps."""
    steps = list(steps_of(token, VERIFIER, NOW))
    assert (steps[-1].name, steps[-1].passed) == (last, False)
    assert steps[-1].detail.startswith(detail)
    assert (steps[0].passed is False) is (len(token) > 16384)


def test_a_token_issued_here_under_a_shared_name() -> None:
    """The key shows whose token it is: own tokens keep their subject where it is."""
    keys = [
        secret_key("shared", forge.SECRET, kid="ours"),
        pem_key("shared", forge.public_pem(forge.private_key("ES256")), kid="theirs"),
    ]
    verifier = Verifier([SHARED], KeyRing(keys), IssuerConfig(issuer="shared"))
    expected = {
        "ours": ("this sidecar's own", '"alice", from sub'),
        "theirs": ("another service's", "oid is absent: claim_missing"),
        "none": ("another service's or this sidecar's own", "oid is absent: claim_missing"),
    }
    for kid, (whose, subject) in expected.items():
        alg = "HS256" if kid == "ours" else "ES256"
        token = forge.token({"iss": "shared"}, {"kid": kid}, alg=alg)
        steps = {step.name: step for step in steps_of(token, verifier, NOW)}
        assert steps["issuer"].detail == f'"shared": {whose}'
        assert steps["subject"].detail.startswith(subject)


_ODD = st.sampled_from(
    [GONE, None, "", "app", "x", 7, True, ["app"], ["a", 7], {"id": "acme"}, NOW - 60, NOW + 60]
)


@given(
    st.dictionaries(
        st.sampled_from([*GOOD, "exp", "nbf", "iat", "sid", "jti", "roles", "scope", "nonce"]),
        _ODD,
        max_size=3,
    )
)
def test_the_steps_agree_with_the_verifier(claims: dict[str, Any]) -> None:
    """A token is accepted exactly if no step refuses it, whatever its claims are."""
    token = forge.token({**GOOD, **claims}, alg="ES256")
    refused = [step for step in steps_of(token, VERIFIER, NOW) if step.passed is False]
    assert isinstance(VERIFIER.verify_access(token, NOW), Reason) is bool(refused)
    assert all(step.detail.isascii() for step in refused)


@pytest.mark.parametrize("issued", [*ACCESS_TOKENS, *ID_TOKENS, *OTHER_TOKENS], ids=str)
def test_tokens_of_providers(issued: Any) -> None:
    """The step about the kind of a token says what it is, for every provider."""
    absent = dict.fromkeys(("nbf", "sid", "roles", "scope", *issued.gone), GONE)
    header = {"typ": GONE if issued.typ is None else issued.typ}
    claims = {**absent, "iss": THEIRS, "aud": "app", **issued.claims}
    token = forge.token(claims, header, alg="ES256")
    (kind,) = (step for step in steps_of(token, VERIFIER, NOW) if step.name == "kind")
    assert kind.passed is (issued.kind is None)
    assert issued.kind is None or kind.detail.startswith(f"{issued.kind.label}: ")


# ── The command ──

pytestmark = pytest.mark.usefixtures("environment")
CONFIG: Final = f"""
users_file = "users.toml"
[identity]
X-Auth-Organisation = "org.id"
[[route]]
path = "/admin/*"
roles = ["g"]
[[route]]
path = "/reports/*"
scopes = ["reports"]
[[issuer]]
issuer = "{THEIRS}"
audience = "app"
session_mode = "none"
roles_claim = "groups"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with an issuer whose key is in a file, and no users."""
    (tmp_path / "users.toml").write_text("")
    (tmp_path / "key.pem").write_bytes(forge.public_pem(forge.private_key("ES256")))
    path = tmp_path / "sidecar.toml"
    path.write_text(CONFIG + 'key_file = "key.pem"\n')
    return path


def issued(**claims: Any) -> str:
    """Return a token of the foreign issuer, issued now."""
    now = int(time.time())
    dates = {"iat": now, "nbf": now, "exp": now + 300}
    return forge.token({**GOOD, **dates, **claims}, {"kid": "k1"}, alg="ES256").decode()


@pytest.mark.parametrize("way", ["argument", "input", "bearer", "former-name"])
def test_what_is_printed(
    way: str, config: Path, capsys: Output, environment: pytest.MonkeyPatch
) -> None:
    """Steps, headers and routes follow the contents; the token is never printed."""
    token = issued()
    given = f"Bearer {token}\n" if way == "bearer" else token
    environment.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given.encode()), "utf-8"))
    name = "inspect" if way == "former-name" else "explain"
    tail = [token] if way == "argument" else []
    assert main(["token", name, "--config", str(config), *tail]) == 0
    found = capsys.readouterr()
    for line in (
        '  -   roles     "g", from groups',
        "  X-Auth-Subject: alice",
        "  X-Auth-Roles: g",
        "  X-Auth-Organisation: acme",
        "  admin: allowed",
        "  reports: denied, scope",
        f'user "alice" of issuer "{THEIRS}"',
    ):
        assert f"{line}\n" in found.out
    assert found.out.endswith("\naccepted\n")
    for part in (token, *token.split(".")):
        assert part not in found.out + found.err


def test_a_refused_token_has_no_effect(config: Path, capsys: Output) -> None:
    """A refused token has neither headers nor routes, and the exit code is 1."""
    assert main(["token", "explain", "--config", str(config), "--json", issued(aud="x")]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["accepted"], found["headers"], found["routes"]) == (False, {}, {})
    assert [each["step"] for each in found["steps"] if each["ok"] is False] == ["audience"]


def test_as_json(config: Path, capsys: Output) -> None:
    """The JSON object has the same steps, headers and routes as the text."""
    assert main(["token", "explain", "--config", str(config), "--json", issued()]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["headers"]["X-Auth-Roles"] == "g"
    assert found["routes"] == {"admin": None, "reports": "scope"}
    assert {each["ok"] for each in found["steps"]} == {True, None}
    assert {"step": "subject", "ok": True, "detail": '"alice", from sub'} in found["steps"]


def test_a_user_who_is_gone(config: Path, capsys: Output) -> None:
    """A token of a password login whose user is not in the users file is refused."""
    arguments = ["token", "mint", "--config", str(config), "--sub", "alice"]
    assert main(arguments) == 0
    minted = capsys.readouterr().out.strip()
    assert main(["token", "explain", "--config", str(config), minted]) == 0
    capsys.readouterr()
    now = int(time.time())
    claims = {
        "iss": "auth-sidecar",
        "aud": "auth-sidecar",
        "client_id": "auth-sidecar",
        "amr": ["pwd"],
        "exp": now + 60,
        "iat": now,
        "nbf": now,
    }
    token = forge.token(claims, key=SECRETS["JWT_SECRET"].encode()).decode()
    assert main(["token", "explain", "--config", str(config), token]) == 1
    assert "refused, user_gone: the users file has no such user" in capsys.readouterr().out


async def test_keys_are_fetched(tmp_path: Path, capsys: Output) -> None:
    """The keys of the token's issuer are fetched from where it is configured, unless offline."""
    path = tmp_path / "sidecar.toml"
    (tmp_path / "users.toml").write_text("")
    async with KeyServer() as keys, KeyServer() as others:
        keys.publish(k1="ES256")
        other = f'[[issuer]]\nissuer = "other"\naudience = "app"\njwks_url = "{others.url}"\n'
        path.write_text(f'{CONFIG}jwks_url = "{keys.url}"\n{other}')

        async def explain(*arguments: str) -> tuple[int, str]:
            given = ["token", "explain", "--config", str(path), *arguments]
            return await asyncio.to_thread(main, given), capsys.readouterr().out

        code, text = await explain(issued())
        assert (code, keys.fetches, others.fetches) == (0, 1, 0)
        assert 'kid "k1": a known key made the signature' in text
        code, text = await explain("--offline", issued())
        assert (code, keys.fetches) == (1, 1)
        assert "key_unknown: " in text
        assert (await explain(issued(iss="unknown")))[0] == 1
        assert (keys.fetches, others.fetches) == (1, 0)
