"""`sidecar token`: what it mints is accepted, what it inspects is judged as the sidecar would."""

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
from sidecar.cli.tokens import NO_SESSION
from sidecar.cli.verdict import MEANINGS, judge, show
from sidecar.settings import Settings, settings_from
from sidecar.settings.model import kinds_of
from tests.peers import stack
from tests.peers.redis_server import RedisServer, free_port

if TYPE_CHECKING:
    from sidecar.auth.tokens import Verifier

ROOT = Path(__file__).parents[2]
SECRETS = {
    "JWT_SECRET": "access-secret-0123456789abcdefghijklmnop",
    "REFRESH_SECRET": "refresh-secret-0123456789abcdefghijklmn",
}
NOW = 1_800_000_000.0

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with two good secrets and no other setting."""
    for name in kinds_of(Settings):
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def mint(output: Output, *arguments: str) -> str:
    """The token that `sidecar token mint` prints."""
    output.readouterr()
    assert main(["token", "mint", *arguments]) == 0
    return output.readouterr().out.removesuffix("\n")


def inspect(monkeypatch: pytest.MonkeyPatch, output: Output, text: str) -> tuple[int, str]:
    """The exit code and the output of `sidecar token inspect` on this input."""
    output.readouterr()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8"))
    code = main(["token", "inspect"])
    return code, output.readouterr().out


def verifier(**env: str) -> Verifier:
    """What a sidecar with these settings believes."""
    settings = settings_from(env=SECRETS | env)
    return build.make_verifier(settings, build.Keys(settings), KeyRing())


def issued(now: float = NOW, **env: str) -> str:
    """An access token that such a sidecar issues."""
    settings = settings_from(env=SECRETS | env)
    issuer = build.make_issuer(settings, build.Keys(settings))
    return issuer.access("alice", "sid", {"roles": ["user"]}, now, "jti")


def encoded(*parts: object) -> bytes:
    """Unsigned parts of a token."""
    return b".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)


# ── mint ──


def test_a_minted_token_is_accepted(capsys: Output, environment: pytest.MonkeyPatch) -> None:
    """Its subject, roles, scopes, claims and time are those that were asked for."""
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
    assert text.endswith("accepted, if its session is live (sessions are not looked up here)\n")


def test_a_token_without_a_session_comes_with_a_note(
    capsys: Output, environment: pytest.MonkeyPatch
) -> None:
    """On standard error, for the token is taken from standard output; and only where it matters."""
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
    """With --store a real Redis holds the session under the token's hash."""
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
        assert json.loads(value)["sub"] == "alice"
        assert isinstance(ttl, int)
        assert 290 < ttl <= 301


def test_no_token_is_made_when_redis_is_away(
    capsys: Output, environment: pytest.MonkeyPatch
) -> None:
    """A token whose session was lost would only be refused."""
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
        pytest.param(["--claim", "exp=1"], "--claim: exp is not for you to choose here"),
        pytest.param(["--claim", "roles=[]"], "--claim: roles is not for you to choose here"),
        pytest.param(["--claim", "a=1", "--claim", "a=2"], "--claim: a is not for you"),
        pytest.param(["--claim", f"a={'x' * 9000}"], "a token of 12"),
        pytest.param(["--store"], "--store needs session_store = redis"),
    ],
)
def test_what_cannot_be_minted(
    arguments: list[str], expected: str, capsys: Output, environment: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and what was expected."""
    environment.setenv("SESSION_STORE", "local")
    assert main(["token", "mint", "--sub", "alice", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"sidecar: {expected}")


# ── inspect ──


def test_inspect_shows_what_is_in_a_token_but_not_the_token(
    capsys: Output, environment: pytest.MonkeyPatch
) -> None:
    """Header, claims and times can be passed on; with what is printed nobody gets in."""
    token = mint(capsys, "--sub", "alice", "--role", "user", "--ttl", "1h")
    code, text = inspect(environment, capsys, f"Bearer {token}\n")
    assert code == 0
    for part in ('"typ": "at+jwt"', '"sub": "alice"', "times\n  iat  20", "exp  20", "in 59m 5"):
        assert part in text.replace("in 1h", "in 59m 5")
    for secret in (token, *token.split("."), *SECRETS.values()):
        assert secret not in text


def test_a_refused_token_exits_with_1(capsys: Output, environment: pytest.MonkeyPatch) -> None:
    """The reason is the word that the metric and the log use."""
    token = mint(capsys, "--sub", "alice")
    changed = token[:-4] + ("AAAA" if not token.endswith("AAAA") else "BBBB")
    code, text = inspect(environment, capsys, changed)
    assert code == 1
    assert f"refused, signature: {MEANINGS[Reason.SIGNATURE]}" in text


REFRESH_NOTE = "it is a good refresh token, for POST /auth/refresh alone"


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
        pytest.param(b"x" * 9000, Reason.TOKEN_TOO_LONG, id="long"),
        pytest.param(b"opaque", Reason.TOKEN_MALFORMED, id="opaque"),
        pytest.param(
            encoded({"alg": "none", "typ": "at+jwt"}, {"iss": "auth-sidecar"}) + b".",
            Reason.ALGORITHM,
            id="none",
        ),
    ],
)
def test_a_token_is_judged_with_the_exact_reason(token: bytes, reason: Reason) -> None:
    """The same word as in the sidecar's metric, and what it means."""
    found = judge(token, verifier(), NOW)
    assert not found.accepted
    assert found.lines == (f"refused, {reason.label}: {MEANINGS[reason]}",)


def test_a_refresh_token_is_recognised() -> None:
    """It is refused as an access token, and said to be what it is."""
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
    """No refusal is left without words."""
    source = "".join(
        (ROOT / "sidecar/auth" / name).read_text() for name in ("tokens.py", "keys.py")
    )
    assert {Reason[name] for name in re.findall(r"Reason\.([A-Z_]+)", source)} == set(MEANINGS)


def test_what_is_in_a_token_is_shown_even_without_a_configuration(
    capsys: Output, environment: pytest.MonkeyPatch
) -> None:
    """Only the verdict needs the keys; what is missing for it is said, with exit code 2."""
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
    """Nobody has to convert seconds since 1970."""
    assert show(encoded({"alg": "HS256"}, claims) + b".", NOW)[-2:] == ["times", expected]


@pytest.mark.parametrize("exp", ["soon", True, -1, 1e300, None], ids=str)
def test_a_time_that_is_none_is_only_shown_as_a_claim(exp: object) -> None:
    """A wrong type is for the verdict to name."""
    assert "times" not in show(encoded({}, {"exp": exp}), NOW)


@given(st.binary(max_size=80))
def test_no_input_breaks_the_inspection(token: bytes) -> None:
    """Whatever is piped in is shown and judged, in ASCII."""
    assert all(line.isascii() for line in show(token, NOW))
    assert not judge(token, verifier(), NOW).accepted


def test_a_terminal_is_safe_from_claims() -> None:
    """Control characters in a claim are shown escaped."""
    lines = show(encoded({"alg": "x"}, {"sub": "\x1b[2J\u202e"}), NOW)
    assert "\\u001b[2J\\u202e" in "".join(lines)
