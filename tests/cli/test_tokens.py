"""`sidecar token`: minted tokens are accepted, and inspection agrees with the sidecar."""

from __future__ import annotations

import io
import json
import re
import time
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.app import build
from sidecar.auth.keys import KeyRing
from sidecar.auth.reason import Reason
from sidecar.cli import main
from sidecar.cli.token_report import MEANINGS, judge, show
from sidecar.cli.tokens import NO_SESSION
from sidecar.settings import settings_from
from tests.auth import forge
from tests.cli.conftest import SECRETS
from tests.peers import stack
from tests.peers.redis_server import RedisServer, free_port

if TYPE_CHECKING:
    from sidecar.auth.tokens import Verifier

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("environment")
NOW = 1_800_000_000.0

Output = pytest.CaptureFixture[str]


def mint(output: Output, *arguments: str) -> str:
    """Return the token that `sidecar token mint` prints."""
    output.readouterr()
    assert main(["token", "mint", *arguments]) == 0
    return output.readouterr().out.removesuffix("\n")


def inspect(monkeypatch: pytest.MonkeyPatch, output: Output, text: str) -> tuple[int, str]:
    """Return the exit code and output of `sidecar token inspect` for this input."""
    output.readouterr()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8"))
    code = main(["token", "inspect"])
    return code, output.readouterr().out


def verifier(**env: str) -> Verifier:
    """Return the verifier of a sidecar with these settings."""
    settings = settings_from(env=SECRETS | env)
    return build.make_verifier(settings, build.Keys(settings), KeyRing())


def issued(now: float = NOW, **env: str) -> str:
    """Return an access token that such a sidecar issues."""
    settings = settings_from(env=SECRETS | env)
    issuer = build.make_issuer(settings, build.Keys(settings))
    return issuer.access("alice", "sid", {"roles": ["user"]}, now, "jti")


def encoded(*parts: object) -> bytes:
    """Return unsigned parts of a token."""
    return b".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)


# ── mint ──


def test_a_minted_token_is_accepted(capsys: Output, environment: pytest.MonkeyPatch) -> None:
    """The token has the given subject, roles, scopes, claims and lifetime."""
    asked = ("--role", "a", "--role", "b", "--scope", "r:read", "--ttl", "5m")
    claims = ("--claim", "tenant=acme", "--claim", 'level={"n": [3]}')
    token = mint(capsys, "--sub", "job", *asked, *claims)
    found = verifier().verify_access(token.encode(), time.time())
    assert not isinstance(found, Reason)
    assert (found.subject, found.roles, found.scopes) == ("job", ("a", "b"), ("r:read",))
    assert (found.claims["tenant"], found.claims["level"]) == ("acme", {"n": [3]})
    assert 299 <= found.claims["exp"] - found.claims["iat"] <= 301
    code, text = inspect(environment, capsys, token)
    assert code == 0
    assert text.endswith("accepted, if its session is live (this command does not look it up)\n")


def test_a_token_without_a_session_comes_with_a_note(
    capsys: Output, environment: pytest.MonkeyPatch
) -> None:
    """The note is on standard error, and only if session_mode is required."""
    assert main(["token", "mint", "--sub", "alice"]) == 0
    found = capsys.readouterr()
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", found.out)
    assert found.err == f"{NO_SESSION}\n"
    environment.setenv("SESSION_MODE", "none")
    assert main(["token", "mint", "--sub", "alice"]) == 0
    found = capsys.readouterr()
    assert found.err == ""
    code, text = inspect(environment, capsys, found.out)
    assert (code, text.splitlines()[-1]) == (0, "accepted")


def test_a_stored_session_is_in_redis_for_as_long_as_the_token(
    capsys: Output, environment: pytest.MonkeyPatch
) -> None:
    """--store writes the session to a real Redis, under the SHA-256 of the token."""
    with RedisServer(password="of-the-test") as server:
        environment.setenv("REDIS_PORT", str(server.port))
        environment.setenv("REDIS_PASSWORD", "of-the-test")
        environment.setenv("REDIS_TIMEOUT", "2s")
        assert main(["token", "mint", "--sub", "alice", "--ttl", "5m", "--store"]) == 0
        found = capsys.readouterr()
        assert found.err == ""
        key = f"session:token:{sha256(found.out.strip().encode()).hexdigest()}"
        value, ttl = server.admin.get(key), server.admin.ttl(key)
        assert isinstance(value, bytes)
        assert json.JSONDecoder().raw_decode(value.decode())[0]["sub"] == "alice"
        assert isinstance(ttl, int)
        assert 290 < ttl <= 301


def test_no_token_is_made_when_redis_is_away(
    capsys: Output, environment: pytest.MonkeyPatch
) -> None:
    """If the session cannot be stored, no token is printed."""
    environment.setenv("REDIS_HOST", "127.0.0.1")
    environment.setenv("REDIS_PORT", str(free_port()))
    assert main(["token", "mint", "--sub", "alice", "--store"]) == 1
    found = capsys.readouterr()
    assert found.out == ""
    assert "the session could not be written to Redis; no token was made\n" in found.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["--ttl", "soon"], '--ttl: expected a duration such as 5m or 12h; got "soon"'),
        pytest.param(["--ttl", "0"], '--ttl: expected a duration such as 5m or 12h; got "0"'),
        pytest.param(["--claim", "tenant"], '--claim: expected NAME=VALUE; got "tenant"'),
        pytest.param(["--claim", "=x"], '--claim: expected NAME=VALUE; got "=x"'),
        pytest.param(["--claim", "exp=1"], "--claim: exp is reserved"),
        pytest.param(["--claim", "roles=[]"], "--claim: roles is reserved"),
        pytest.param(["--claim", "a=1", "--claim", "a=2"], "--claim: a is reserved, or was"),
        pytest.param(["--claim", f"a={'x' * 16000}"], "expected a token of at most 16384 bytes"),
        pytest.param(["--store"], "--store: expected session_store = redis"),
    ],
)
def test_what_cannot_be_minted(
    arguments: list[str], expected: str, capsys: Output, environment: pytest.MonkeyPatch
) -> None:
    """Invalid arguments give exit code 2 and a message."""
    environment.setenv("SESSION_STORE", "local")
    assert main(["token", "mint", "--sub", "alice", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"sidecar: {expected}")


# ── inspect ──


def test_inspect_shows_what_is_in_a_token_but_not_the_token(
    capsys: Output, environment: pytest.MonkeyPatch
) -> None:
    """The output has header, claims and times, but cannot be used as a credential."""
    token = mint(capsys, "--sub", "alice", "--role", "user", "--ttl", "1h")
    code, text = inspect(environment, capsys, f"Bearer {token}\n")
    assert code == 0
    for part in ('"typ": "at+jwt"', '"sub": "alice"', "times\n  iat  20", "exp  20", "in 59m 5"):
        assert part in text.replace("in 1h", "in 59m 5")
    for secret in (token, *token.split("."), *SECRETS.values()):
        assert secret not in text


def test_a_refused_token_exits_with_1(capsys: Output, environment: pytest.MonkeyPatch) -> None:
    """The reason has the same label as in metrics and logs."""
    token = mint(capsys, "--sub", "alice")
    changed = token[:-4] + ("AAAA" if not token.endswith("AAAA") else "BBBB")
    code, text = inspect(environment, capsys, changed)
    assert code == 1
    assert f"refused, signature: {MEANINGS[Reason.SIGNATURE]}" in text


def test_whose_token_it_is_is_said(tmp_path: Path) -> None:
    """An accepted token is shown with its user and issuer, an ID token with what it is."""
    (tmp_path / "id.pem").write_bytes(forge.public_pem(forge.private_key("ES256")))
    (tmp_path / "sidecar.toml").write_text(
        '[[issuer]]\nissuer = "https://id.example"\naudience = "app"\nkey_file = "id.pem"\n'
        'session_mode = "denylist"\nuser_claim = "email"\n'
    )
    settings = settings_from(env=SECRETS, file=tmp_path / "sidecar.toml")
    keys = KeyRing(build.read_foreign_keys(settings))
    foreign = build.make_verifier(settings, build.Keys(settings), keys)
    claims = {"iss": "https://id.example", "aud": "app", "email": "a@example.org"}
    shown = forge.token(claims, alg="ES256")
    assert judge(shown, foreign, NOW).lines == (
        'user "a@example.org" of issuer "https://id.example"',
        "accepted, unless it was revoked (this command does not look that up)",
    )
    shown = forge.token({**claims, "at_hash": "h"}, alg="ES256")
    meaning = MEANINGS[Reason.ID_TOKEN]
    assert judge(shown, foreign, NOW).lines == (f"refused, id_token: {meaning}",)


REFRESH_NOTE = "it is a valid refresh token, which only a refresh accepts"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        pytest.param(issued(NOW - 3600).encode(), Reason.EXPIRED, id="over"),
        pytest.param(
            stack.mint(secret=SECRETS["JWT_SECRET"], nbf=NOW + 3600, exp=NOW + 7200).encode(),
            Reason.NOT_YET_VALID,
            id="early",
        ),
        pytest.param(issued(JWT_AUDIENCE="other").encode(), Reason.AUDIENCE, id="audience"),
        pytest.param(issued(JWT_ISSUER="other").encode(), Reason.ISSUER_UNKNOWN, id="issuer"),
        pytest.param(
            issued(JWT_SECRET="x7Y" + "0123456789" * 4).encode(), Reason.KEY_UNKNOWN, id="key"
        ),
        pytest.param(issued().encode() + b"=", Reason.TOKEN_MALFORMED, id="padding"),
        pytest.param(b"x" * 16385, Reason.TOKEN_TOO_LONG, id="long"),
        pytest.param(b"opaque", Reason.TOKEN_MALFORMED, id="opaque"),
        pytest.param(
            encoded({"alg": "none", "typ": "at+jwt"}, {"iss": "auth-sidecar"}) + b".",
            Reason.ALGORITHM,
            id="none",
        ),
    ],
)
def test_a_token_is_judged_with_the_exact_reason(token: bytes, reason: Reason) -> None:
    """The report has the label of the metric and its meaning."""
    found = judge(token, verifier(), NOW)
    assert not found.accepted
    assert found.lines == (f"refused, {reason.label}: {MEANINGS[reason]}",)


def test_a_refresh_token_is_recognised() -> None:
    """A refresh token is refused as an access token, and recognised as a refresh token."""
    settings = settings_from(env=SECRETS)
    token = build.make_issuer(settings, build.Keys(settings)).refresh("alice", "s", NOW, "j")
    found = judge(token.encode(), verifier(), NOW)
    assert not found.accepted
    assert found.lines == (
        f"refused, token_type: {MEANINGS[Reason.TOKEN_TYPE]}",
        REFRESH_NOTE,
    )
    assert REFRESH_NOTE not in judge(token.encode(), verifier(), NOW + 30 * 86400).lines


def test_every_reason_of_a_verifier_has_its_meaning() -> None:
    """Every reason that a verifier can give has a sentence."""
    source = "".join(
        (ROOT / "sidecar/auth" / name).read_text()
        for name in (
            *("tokens.py", "claim_checks.py", "signature_checks.py", "token_kind.py", "keys.py"),
        )
    )
    assert {Reason[name] for name in re.findall(r"Reason\.([A-Z_]+)", source)} == set(MEANINGS)


def test_what_is_in_a_token_is_shown_even_without_a_configuration(
    capsys: Output, environment: pytest.MonkeyPatch
) -> None:
    """Without keys, the contents are shown, then the problem, with exit code 2."""
    token = mint(capsys, "--sub", "alice")
    environment.delenv("JWT_SECRET")
    code, text = inspect(environment, capsys, token)
    assert code == 2
    assert '"sub": "alice"' in text


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        pytest.param({"exp": NOW}, "  exp  2027-01-15T08:00:00Z  now", id="now"),
        pytest.param({"exp": NOW + 843}, "  exp  2027-01-15T08:14:03Z  in 14m 3s", id="ahead"),
        pytest.param({"iat": NOW - 90061}, "  iat  2027-01-14T06:58:59Z  1d 1h ago", id="past"),
        pytest.param({"nbf": 0}, "  nbf  1970-01-01T00:00:00Z  20833d 8h ago", id="ages-ago"),
    ],
)
def test_times_are_told_as_dates_and_distances(claims: dict[str, float], expected: str) -> None:
    """Times are shown as dates, and relative to now."""
    assert show(encoded({"alg": "HS256"}, claims) + b".", NOW)[-2:] == ["times", expected]


@pytest.mark.parametrize("exp", ["soon", True, -1, 1e300, None], ids=str)
def test_a_time_that_is_none_is_only_shown_as_a_claim(exp: object) -> None:
    """A time of the wrong type appears only among the claims."""
    assert "times" not in show(encoded({}, {"exp": exp}), NOW)


@given(st.binary(max_size=80))
def test_no_input_breaks_the_inspection(token: bytes) -> None:
    """Any input gives a report in ASCII."""
    assert all(line.isascii() for line in show(token, NOW))
    assert not judge(token, verifier(), NOW).accepted


def test_a_terminal_is_safe_from_claims() -> None:
    """Control characters in a claim are escaped."""
    lines = show(encoded({"alg": "x"}, {"sub": "\x1b[2J\u202e"}), NOW)
    assert "\\u001b[2J\\u202e" in "".join(lines)
