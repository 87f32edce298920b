"""The tokens that are sent: whose they are, how they are signed, and that none repeats."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import jwt
import pytest

from bench.scenarios import spoiled
from bench.tokens import AUDIENCE, ISSUER, OTHER_ISSUER, Algorithm, TokenMaker, user_names

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET = "s" * 64
MAKER = TokenMaker(SECRET, user_names(3))
both = pytest.mark.parametrize("algorithm", list(Algorithm))


def claims_of(token: str, algorithm: Algorithm) -> Mapping[str, object]:
    """The claims of a token, verified with the published key."""
    [key] = jwt.PyJWKSet.from_json(MAKER.key_set(algorithm)).keys
    return jwt.decode(token, key, algorithms=[algorithm], audience=AUDIENCE)


@both
def test_a_token_is_what_the_proxies_check(algorithm: Algorithm) -> None:
    """Tokens have the issuer of their key, the audience and type of the sidecar's own."""
    token = MAKER.mint("alice", algorithm)
    claims = claims_of(token, algorithm)
    assert claims["sub"] == "alice"
    assert claims["iss"] == (ISSUER if algorithm is Algorithm.HS256 else OTHER_ISSUER)
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"


def test_no_private_key_is_published() -> None:
    """The key set for RS256 has the public numbers only."""
    assert set(MAKER.key(Algorithm.RS256).jwk) == {"kty", "n", "e", "alg", "kid", "use"}
    assert "PUBLIC KEY" in MAKER.public_pem()


@both
def test_each_user_has_a_token(algorithm: Algorithm) -> None:
    """There is one token for each user, always the same."""
    tokens = MAKER.of_users(algorithm)
    assert [claims_of(token, algorithm)["sub"] for token in tokens] == list(user_names(3))
    assert MAKER.of_users(algorithm) is tokens


@both
def test_expired_tokens_have_a_good_signature(algorithm: Algorithm) -> None:
    """What is wrong with an expired token is its time, and nothing else."""
    for token in MAKER.expired(algorithm):
        with pytest.raises(jwt.ExpiredSignatureError):
            claims_of(token, algorithm)
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["iat"] < claims["exp"] < time.time() - 3600


@both
def test_fresh_tokens_never_repeat(algorithm: Algorithm) -> None:
    """Two rounds of fresh tokens have none in common, and are those of all users in turn."""
    rounds = [MAKER.fresh(algorithm, 7) for _ in range(2)]
    assert len({token for each in rounds for token in each}) == 14
    subjects = [claims_of(token, algorithm)["sub"] for token in rounds[0]]
    assert subjects == [*user_names(3), *user_names(3), "user-0000"]


def test_spoiled_token_differs_only_in_its_signature() -> None:
    """A spoiled token has the same length and claims but an invalid signature."""
    token = MAKER.mint()
    bad = spoiled(token)
    assert len(bad) == len(token)
    assert bad.rpartition(".")[0] == token.rpartition(".")[0]
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(bad, SECRET, algorithms=["HS256"], audience=AUDIENCE)
