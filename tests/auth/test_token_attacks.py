"""Known attacks on JWT libraries: each is refused with its own reason."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidecar.auth.asymmetric import pem_key
from sidecar.auth.keys import KeyRing, public_jwks
from sidecar.auth.reason import Reason
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import FOREIGN_TYPES, IssuerConfig, Verifier
from sidecar.auth.verified import Verified
from tests.auth.forge import (
    CLAIMS,
    GONE,
    ISSUER,
    NOW,
    REFRESH_SECRET,
    SECRET,
    b64,
    private_key,
    private_pem,
    public_pem,
    raw_token,
    sign,
    token,
)

if TYPE_CHECKING:
    from collections.abc import Callable

RSA_KEY = pem_key(ISSUER, private_pem(private_key("RS256")), kid="rsa")
EC_KEY = pem_key(ISSUER, private_pem(private_key("ES256")), kid="ec")
HS_KEY = secret_key(ISSUER, SECRET, kid="hs")
ED_KEY = pem_key(ISSUER, private_pem(private_key("EdDSA")), kid="ed")
KEYS = [RSA_KEY, EC_KEY, HS_KEY, ED_KEY]


def verifier(*keys: Any, **config: Any) -> Verifier:
    """Return a verifier for this issuer's tokens with these keys, of any type and audience."""
    issuer = IssuerConfig(issuer=ISSUER, types=FOREIGN_TYPES, **config)
    return Verifier([issuer], KeyRing(keys or KEYS))


ALL = verifier()


def public_forms() -> dict[str, bytes]:
    """Return the RSA public key in every format that an attacker could use."""
    public = private_key("RS256").public_key()
    pem = public_pem(private_key("RS256"))
    jwk = RSA_KEY.public_jwk()
    return {
        "pem": pem,
        "pem-stripped": pem.strip(),
        "pem-crlf": pem.replace(b"\n", b"\r\n"),
        "pem-one-line": pem.replace(b"\n", b""),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "pkcs1-pem": public.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        "pkcs1-der": public.public_bytes(Encoding.DER, PublicFormat.PKCS1),
        "ssh": public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "jwk": json.dumps(jwk).encode(),
        "jwk-compact": json.dumps(jwk, separators=(",", ":")).encode(),
        "jwks": public_jwks([RSA_KEY]),
        "modulus": (jwk or {})["n"].encode(),
        "kid": b"rsa",
        "empty": b"",
    }


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("form", public_forms())
def test_public_key_as_secret(form: str, alg: str) -> None:
    """No format of a public key works as HMAC secret (CVE-2017-11424, CVE-2022-29217)."""
    secret = public_forms()[form]
    only_rsa = verifier(RSA_KEY)
    for kid in ("rsa", GONE):
        raw = token(header={"kid": kid}, alg=alg, key=secret)
        assert only_rsa.verify_access(raw, NOW) is Reason.ALGORITHM
    named = token(header={"kid": "rsa"}, alg=alg, key=secret)
    assert ALL.verify_access(named, NOW) is Reason.ALGORITHM
    unnamed = token(alg=alg, key=secret)
    expected = Reason.SIGNATURE if alg == "HS256" else Reason.ALGORITHM
    assert ALL.verify_access(unnamed, NOW) is expected


@pytest.mark.parametrize(
    "alg",
    [
        *(
            "none",
            "None",
            "NONE",
            "nOnE",
            "",
            " ",
            "HS256 ",
            "hs256",
            "HS1",
            "HS2048",
            "ES256K",
            "ES521",
        ),
        *(
            "RSA1_5",
            "dir",
            "A128KW",
            "EdDSA ",
            "Ed25519",
            None,
            0,
            False,
            [],
            ["HS256"],
            {"HS256": 1},
            GONE,
        ),
    ],
    ids=repr,
)
@pytest.mark.parametrize("signature", ["empty", "hmac", "zeros"])
def test_no_algorithm(alg: object, signature: str) -> None:
    """An algorithm that is "none", unknown or spelled differently is refused."""
    parts = token(header={"alg": alg, "kid": "hs"}).split(b".")
    message = b".".join(parts[:2])
    made = {"empty": b"", "hmac": b64(sign(message)), "zeros": b64(bytes(32))}
    raw = message + b"." + made[signature]
    assert ALL.verify_access(raw, NOW) is Reason.ALGORITHM


@pytest.mark.parametrize(
    ("alg", "kid", "reason"),
    [
        pytest.param("HS256", "rsa", Reason.ALGORITHM, id="secret-with-rsa"),
        pytest.param("RS256", "hs", Reason.ALGORITHM, id="rsa-with-secret"),
        pytest.param("PS256", "rsa", Reason.ALGORITHM, id="pss-with-pkcs1"),
        pytest.param("RS512", "rsa", Reason.ALGORITHM, id="rs512-with-rs256"),
        pytest.param("ES256", "rsa", Reason.ALGORITHM, id="ec-with-rsa"),
        pytest.param("ES384", "ec", Reason.ALGORITHM, id="p-384-with-p-256"),
        pytest.param("EdDSA", "ec", Reason.ALGORITHM, id="ed-with-ec"),
        pytest.param("RS256", "ec", Reason.ALGORITHM, id="rsa-with-ec"),
        pytest.param("RS512", GONE, Reason.ALGORITHM, id="algorithm-of-no-key"),
    ],
)
def test_algorithm_of_another_key(alg: str, kid: object, reason: Reason) -> None:
    """A key is used only with its own algorithm (RFC 8725 section 3.1)."""
    raw = token(header={"kid": kid}, alg=alg, key=SECRET if alg == "HS256" else private_key(alg))
    assert ALL.verify_access(raw, NOW) is reason


def test_configured_algorithms() -> None:
    """An algorithm that is not configured is refused, even if there is a key for it."""
    narrow = verifier(algorithms=frozenset(("ES256",)))
    assert narrow.verify_access(token(), NOW) is Reason.ALGORITHM
    assert isinstance(narrow.verify_access(token(alg="ES256"), NOW), Verified)


@pytest.mark.parametrize(
    ("kid", "reason"),
    [
        pytest.param("../../../../dev/null", Reason.KEY_UNKNOWN, id="path"),
        pytest.param("/proc/sys/kernel/randomize_va_space", Reason.KEY_UNKNOWN, id="file"),
        pytest.param("x' UNION SELECT 'a", Reason.KEY_UNKNOWN, id="sql"),
        pytest.param("http://evil.test/key", Reason.KEY_UNKNOWN, id="address"),
        pytest.param("hs\0", Reason.KEY_UNKNOWN, id="nul"),
        pytest.param("HS", Reason.KEY_UNKNOWN, id="case"),
        pytest.param("", Reason.KEY_UNKNOWN, id="empty"),
        pytest.param("hs" * 1000, Reason.KEY_UNKNOWN, id="long"),
        pytest.param(None, Reason.TOKEN_MALFORMED, id="null"),
        pytest.param(0, Reason.TOKEN_MALFORMED, id="number"),
        pytest.param(["hs"], Reason.TOKEN_MALFORMED, id="list"),
        pytest.param({"hs": 1}, Reason.TOKEN_MALFORMED, id="object"),
        pytest.param(True, Reason.TOKEN_MALFORMED, id="true"),
    ],
)
def test_key_id(kid: object, reason: Reason) -> None:
    """A key id is only looked up; an unknown one finds no key."""
    assert ALL.verify_access(token(header={"kid": kid}), NOW) is reason


def evil_pair() -> tuple[ec.EllipticCurvePrivateKey, dict[str, str]]:
    """Return a key of the attacker and its JWK."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key, pem_key("evil", private_pem(key)).public_jwk() or {}


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "keys"])
@pytest.mark.parametrize("kid", ["ec", "evil", GONE], ids=["known-kid", "own-kid", "no-kid"])
def test_key_in_the_header(name: str, kid: object) -> None:
    """A key in the token, or the address of one, is ignored (CVE-2018-0114)."""
    key, jwk = evil_pair()
    value = {"jwk": jwk, "x5c": ["MIIB"], "keys": [jwk]}.get(name, "http://evil.test/keys")
    raw = token(header={name: value, "kid": kid}, alg="ES256", key=key)
    expected = Reason.KEY_UNKNOWN if kid == "evil" else Reason.SIGNATURE
    assert ALL.verify_access(raw, NOW) is expected
    harmless = token(header={name: value, "kid": "ec"}, alg="ES256")
    assert isinstance(ALL.verify_access(harmless, NOW), Verified)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"crit": ["x"], "x": 1}, id="crit-unknown"),
        pytest.param({"crit": ["exp"], "exp": 1}, id="crit-exp"),
        pytest.param({"crit": []}, id="crit-empty"),
        pytest.param({"crit": None}, id="crit-null"),
        pytest.param({"crit": "b64"}, id="crit-text"),
        pytest.param({"crit": ["b64"], "b64": True}, id="crit-b64-true"),
        pytest.param({"crit": ["b64"], "b64": False}, id="crit-b64-false"),
        pytest.param({"b64": False}, id="b64-false"),
        pytest.param({"b64": True}, id="b64-true"),
    ],
)
def test_critical_extensions(header: dict[str, Any]) -> None:
    """A token with critical extensions is refused (CVE-2026-32597)."""
    assert ALL.verify_access(token(header=header), NOW) is Reason.TOKEN_MALFORMED


def test_unencoded_payload() -> None:
    """An unencoded payload (RFC 7797) is refused, and so is its header."""
    header = b64(b'{"alg":"HS256","typ":"at+jwt","b64":false,"crit":["b64"]}')
    message = header + b"." + json.dumps(CLAIMS).encode()
    raw = message + b"." + b64(sign(message))
    assert ALL.verify_access(raw, NOW) is Reason.TOKEN_MALFORMED


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of the curve P-256


@pytest.mark.parametrize(
    ("r", "s"),
    [
        pytest.param(0, 0, id="zeros"),
        pytest.param(0, 1, id="r-zero"),
        pytest.param(1, 0, id="s-zero"),
        pytest.param(1, 1, id="ones"),
        pytest.param(ORDER, ORDER, id="order"),
        pytest.param(ORDER, 1, id="r-order"),
        pytest.param(2**256 - 1, 2**256 - 1, id="greatest"),
    ],
)
def test_psychic_signature(r: int, s: int) -> None:
    """An ECDSA signature of trivial numbers is refused (CVE-2022-21449)."""
    message = token(header={"kid": "ec"}, alg="ES256").rpartition(b".")[0]
    raw = message + b"." + b64(r.to_bytes(32) + s.to_bytes(32))
    assert ALL.verify_access(raw, NOW) is Reason.SIGNATURE


def der(r: int, s: int) -> bytes:
    """Encode the two numbers as ASN.1, as most libraries do."""
    numbers = [n.to_bytes((n.bit_length() + 8) // 8) for n in (r, s)]
    body = b"".join(b"\x02" + bytes([len(n)]) + n for n in numbers)
    return b"\x30" + bytes([len(body)]) + body


def ec_signature(message: bytes) -> tuple[int, int]:
    """Return the two numbers of a valid signature."""
    key = private_key("ES256")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda r, s: r.to_bytes(33) + s.to_bytes(33), id="longer-numbers"),
        pytest.param(lambda r, s: r.to_bytes(32) + s.to_bytes(32) + b"\0", id="byte-after"),
        pytest.param(lambda r, s: b"\0" + r.to_bytes(32) + s.to_bytes(32), id="byte-before"),
        pytest.param(lambda r, _: r.to_bytes(32), id="half"),
        pytest.param(lambda r, s: s.to_bytes(32) + r.to_bytes(32), id="swapped"),
        pytest.param(der, id="der"),
        pytest.param(lambda r, s: r.to_bytes(48) + s.to_bytes(48), id="size-of-p-384"),
    ],
)
def test_other_form_of_a_signature(write: Callable[[int, int], bytes]) -> None:
    """An ECDSA signature must be two numbers of 32 bytes; other formats are refused."""
    message = token(header={"kid": "ec"}, alg="ES256").rpartition(b".")[0]
    good = ec_signature(message)
    fixed = message + b"." + b64(good[0].to_bytes(32) + good[1].to_bytes(32))
    assert isinstance(ALL.verify_access(fixed, NOW), Verified)
    assert ALL.verify_access(message + b"." + b64(write(*good)), NOW) is Reason.SIGNATURE


@pytest.mark.parametrize(
    ("alg", "kid", "signature"),
    [
        pytest.param("HS256", "hs", b"", id="hmac-empty"),
        pytest.param("HS256", "hs", bytes(32), id="hmac-zeros"),
        pytest.param("HS256", "hs", hashlib.sha256(b"").digest(), id="hash-of-nothing"),
        pytest.param("RS256", "rsa", b"", id="rsa-empty"),
        pytest.param("RS256", "rsa", bytes(256), id="rsa-zeros"),
        pytest.param("RS256", "rsa", bytes(255) + b"\1", id="rsa-one"),
        pytest.param("RS256", "rsa", b"\xff" * 256, id="rsa-greater-than-modulus"),
        pytest.param("RS256", "rsa", b"\0" + bytes(256), id="rsa-longer"),
        pytest.param("EdDSA", "ed", b"", id="ed-empty"),
        pytest.param("EdDSA", "ed", bytes(64), id="ed-zeros"),
        pytest.param("EdDSA", "ed", b"\1" + bytes(63), id="ed-neutral-point"),
        pytest.param("EdDSA", "ed", b"\xff" * 64, id="ed-greatest"),
        pytest.param("ES256", "ec", b"", id="ec-empty"),
    ],
)
def test_empty_signatures(alg: str, kid: str, signature: bytes) -> None:
    """A signature that can be made without the key is refused."""
    message = token(header={"kid": kid}, alg=alg).rpartition(b".")[0]
    assert ALL.verify_access(message + b"." + b64(signature), NOW) is Reason.SIGNATURE


def test_ed25519_twin() -> None:
    """An Ed25519 signature plus the order of the group is refused."""
    message = token(header={"kid": "ed"}, alg="EdDSA").rpartition(b".")[0]
    good = sign(message, "EdDSA")
    assert isinstance(ALL.verify_access(message + b"." + b64(good), NOW), Verified)
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(good[32:], "little") + order
    raw = message + b"." + b64(good[:32] + s.to_bytes(32, "little"))
    assert ALL.verify_access(raw, NOW) is Reason.SIGNATURE


def test_rsa_twin() -> None:
    """An RSA signature plus the modulus is refused."""
    key = private_key("RS256")
    assert isinstance(key, rsa.RSAPrivateKey)
    modulus = key.public_key().public_numbers().n
    for number in range(8):  # for at least one of them the sum fits into the same number of bytes
        message = token({"jti": f"t{number}"}, {"kid": "rsa"}, alg="RS256").rpartition(b".")[0]
        twin = int.from_bytes(sign(message, "RS256")) + modulus
        raw = message + b"." + b64(twin.to_bytes(256 + (twin >= 2**2048)))
        assert ALL.verify_access(raw, NOW) is Reason.SIGNATURE


def test_truncated_hmac() -> None:
    """A prefix of a valid HMAC is refused."""
    message, _, signature = token().rpartition(b".")
    full = hmac.digest(SECRET, message, "sha256")
    assert b64(full) == signature
    for length in (31, 16, 1):
        raw = message + b"." + b64(full[:length])
        assert ALL.verify_access(raw, NOW) is Reason.SIGNATURE


GOOD = token()
HEAD, BODY, SIGN = GOOD.split(b".")


def padded(part: bytes) -> bytes:
    """Return a part with the padding that base64 has elsewhere."""
    return part + b"=" * (-len(part) % 4)


def signed(message: bytes) -> bytes:
    """Return a token of exactly this header and payload, with its right signature."""
    return message + b"." + b64(sign(message))


def loose(part: bytes) -> bytes:
    """Return another encoding of the same bytes: unused bits of the last character are set."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return part[:-1] + alphabet[alphabet.index(part[-1:]) + 1 :][:1]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b".", id="one-dot"),
        pytest.param(b"..", id="two-dots"),
        pytest.param(b"...", id="three-dots"),
        pytest.param(b"." * 8192, id="only-dots"),
        pytest.param(HEAD, id="one-part"),
        pytest.param(HEAD + b"." + BODY, id="two-parts"),
        pytest.param(GOOD + b".", id="four-parts"),
        pytest.param(b"." + GOOD, id="empty-part-before"),
        pytest.param(GOOD + b"." + BODY + b"." + SIGN, id="five-parts"),
        pytest.param(b"." + BODY + b"." + SIGN, id="no-header"),
        pytest.param(
            padded(HEAD + b"A")[:-1] + b"." + BODY + b"." + SIGN, id="one-character-too-many"
        ),
        pytest.param(HEAD + b"." + BODY + b"." + padded(SIGN), id="signature-padded"),
        pytest.param(HEAD + b"." + BODY + b"." + SIGN + b"==", id="signature-padded-wrongly"),
        pytest.param(padded(HEAD) + b"=." + BODY + b"." + SIGN, id="header-padded"),
        pytest.param(HEAD + b"." + BODY + b"." + loose(SIGN), id="signature-loose-bits"),
        pytest.param(b" " + GOOD, id="space-before"),
        pytest.param(GOOD + b"\n", id="line-feed-after"),
        pytest.param(GOOD.replace(b".", b"%2E"), id="percent-encoded"),
        pytest.param(GOOD + b"\0", id="nul-after"),
        pytest.param(GOOD.decode().encode("utf-16"), id="utf-16"),
        pytest.param(GOOD.decode().replace(".", "。").encode(), id="other-dots"),
        pytest.param(HEAD + b"." + BODY + b"." + SIGN[:-1] + b"+", id="standard-alphabet-plus"),
        pytest.param(HEAD + b"." + BODY + b"." + SIGN[:-1] + b"/", id="standard-alphabet-slash"),
    ],
)
def test_other_spellings(raw: bytes) -> None:
    """Only one encoding of a token is accepted, or a revoked token could have a second one."""
    assert isinstance(ALL.verify_access(GOOD, NOW), Verified)
    assert ALL.verify_access(raw, NOW) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("payload", [b"", b"\n" + BODY, padded(BODY) + b"=", BODY[:-1] + b"+"])
def test_other_spellings_of_a_payload(payload: bytes) -> None:
    """A payload is decoded after the signature is verified, and then just as strictly."""
    unsigned = HEAD + b"." + payload
    assert ALL.verify_access(unsigned + b"." + SIGN, NOW) is Reason.SIGNATURE
    assert ALL.verify_access(signed(unsigned), NOW) is Reason.TOKEN_MALFORMED


def test_every_loose_bit() -> None:
    """Unused bits must be zero in every part, whatever its length."""
    for size in range(1, 9):
        payload = json.dumps({**CLAIMS, "pad": "x" * size}).encode()
        header = json.dumps({"alg": "HS256", "typ": "at+jwt", "pad": "x" * size}).encode()
        parts = raw_token(header, payload).split(b".")
        assert isinstance(ALL.verify_access(b".".join(parts), NOW), Verified)
        for at, part in enumerate(parts):
            if len(part) % 4:
                changed = [*parts[:at], loose(part), *parts[at + 1 :]]
                raw = signed(b".".join(changed[:2])) if at == 1 else b".".join(changed)
                assert ALL.verify_access(raw, NOW) is Reason.TOKEN_MALFORMED


HEADER_TEXT = '{"alg":"HS256","typ":"at+jwt"}'
CLAIMS_TEXT = json.dumps(CLAIMS)


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        pytest.param(HEADER_TEXT.encode("utf-16"), CLAIMS_TEXT.encode(), id="header-utf-16"),
        pytest.param(HEADER_TEXT.encode("utf-32-be"), CLAIMS_TEXT.encode(), id="header-utf-32"),
        pytest.param(b"\xef\xbb\xbf" + HEADER_TEXT.encode(), CLAIMS_TEXT.encode(), id="header-bom"),
        pytest.param(HEADER_TEXT.encode(), CLAIMS_TEXT.encode("utf-16-le"), id="payload-utf-16"),
        pytest.param(HEADER_TEXT.encode(), CLAIMS_TEXT.encode() + b"\xff", id="payload-not-utf-8"),
        pytest.param(b"[]", CLAIMS_TEXT.encode(), id="header-list"),
        pytest.param(b"null", CLAIMS_TEXT.encode(), id="header-null"),
        pytest.param(b'"{}"', CLAIMS_TEXT.encode(), id="header-text"),
        pytest.param(HEADER_TEXT.encode(), b"[]", id="payload-list"),
        pytest.param(HEADER_TEXT.encode(), b"7", id="payload-number"),
        pytest.param(HEADER_TEXT.encode(), b"hello", id="payload-words"),
        pytest.param(HEADER_TEXT.encode() + b"x", CLAIMS_TEXT.encode(), id="header-and-more"),
        pytest.param(
            b'{"alg":"none","alg":"HS256","typ":"at+jwt"}', CLAIMS_TEXT.encode(), id="header-twice"
        ),
        pytest.param(
            HEADER_TEXT.encode(),
            CLAIMS_TEXT.replace('"sub"', '"sub": "root", "sub"').encode(),
            id="payload-twice",
        ),
        pytest.param(
            HEADER_TEXT.encode(),
            CLAIMS_TEXT.replace('"sub"', '"s\\u0075b": "root", "sub"').encode(),
            id="payload-twice-escaped",
        ),
        pytest.param(HEADER_TEXT.encode(), b'{"a":' * 1200, id="payload-deep"),
        pytest.param(
            HEADER_TEXT.encode(),
            CLAIMS_TEXT.replace('"alice"', '"\\ud800"').encode(),
            id="lone-surrogate",
        ),
    ],
)
def test_other_encodings(header: bytes, payload: bytes) -> None:
    """A document that parsers could read differently is refused, even if signed correctly."""
    assert ALL.verify_access(raw_token(header, payload), NOW) is Reason.TOKEN_MALFORMED


def test_encrypted_and_nested_tokens() -> None:
    """A JWE has five parts, and a nested token is not a set of claims."""
    assert ALL.verify_access(b".".join([b64(b'{"alg":"dir"}'), b"", *[b"AAAA"] * 3]), NOW) is (
        Reason.TOKEN_MALFORMED
    )
    nested = raw_token(b'{"alg":"HS256","typ":"at+jwt","cty":"JWT"}', GOOD)
    assert ALL.verify_access(nested, NOW) is Reason.TOKEN_MALFORMED


def test_json_serialisation() -> None:
    """Only the compact serialisation is accepted."""
    members = {"payload": BODY, "protected": HEAD, "signature": SIGN}
    form = json.dumps({name: part.decode() for name, part in members.items()}).encode()
    assert ALL.verify_access(form, NOW) is Reason.TOKEN_MALFORMED
    assert ALL.verify_access(urlsafe_b64encode(form), NOW) is Reason.TOKEN_MALFORMED


def test_key_of_another_issuer() -> None:
    """A key of one issuer does not verify tokens of another, with or without a key id."""
    two = Verifier(
        [IssuerConfig(issuer="a"), IssuerConfig(issuer="b")],
        KeyRing([secret_key("a", SECRET, kid="k"), secret_key("b", REFRESH_SECRET, kid="k")]),
    )
    for kid in ("k", GONE):
        raw = token({"iss": "b"}, {"kid": kid}, key=SECRET)
        assert two.verify_access(raw, NOW) is Reason.SIGNATURE
        assert isinstance(two.verify_access(token({"iss": "a"}, {"kid": kid}), NOW), Verified)


def test_removed_key() -> None:
    """A key that was removed from the ring verifies no token (GHSA-675f-rq2r-jw82)."""
    ring = KeyRing([HS_KEY, EC_KEY]).replaced(ISSUER, [EC_KEY])
    after = Verifier([IssuerConfig(issuer=ISSUER)], ring)
    assert after.verify_access(token(header={"kid": "hs"}), NOW) is Reason.KEY_UNKNOWN
    assert after.verify_access(token(), NOW) is Reason.ALGORITHM


@pytest.mark.parametrize(
    ("claims", "header", "reason"),
    [
        pytest.param({"exp": 1}, {}, Reason.SIGNATURE, id="expired"),
        pytest.param({"aud": 7, "sub": ""}, {}, Reason.SIGNATURE, id="claims-invalid"),
        pytest.param({"exp": "x"}, {}, Reason.SIGNATURE, id="expiry-text"),
        pytest.param({"iss": "nobody"}, {}, Reason.SIGNATURE, id="issuer"),
        pytest.param({"exp": 1}, {"kid": "x"}, Reason.KEY_UNKNOWN, id="key"),
    ],
)
def test_signature_comes_first(
    claims: dict[str, Any], header: dict[str, Any], reason: Reason
) -> None:
    """Claims are checked only after the signature."""
    raw = token(claims, header, key=b"x" * 32)
    assert ALL.verify_access(raw, NOW) is reason


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"hello", id="words"),
        pytest.param(b'{"a":' * 1200, id="deep"),
        pytest.param(b'{"iss":"nobody"}', id="another-issuer"),
        pytest.param(b'{"iss":"x","iss":"y"}', id="twice"),
    ],
)
def test_claims_of_a_forged_token_are_not_read(payload: bytes) -> None:
    """With the name of a secret that one issuer has, a wrong code is all that is looked at."""
    header = b'{"alg":"HS256","typ":"at+jwt"}'
    forged = raw_token(header, payload).rpartition(b".")[0] + b"." + b64(bytes(32))
    assert ALL.verify_access(forged, NOW) is Reason.SIGNATURE
    signed = ALL.verify_access(raw_token(header, payload), NOW)
    assert signed in {Reason.TOKEN_MALFORMED, Reason.ISSUER_UNKNOWN}


@pytest.mark.parametrize(
    ("algorithms", "kid", "reason"),
    [
        pytest.param((), "k", Reason.ALGORITHM, id="same-kid"),
        pytest.param((), GONE, Reason.ALGORITHM, id="no-kid"),
        pytest.param(("RS256",), GONE, Reason.ALGORITHM, id="configured"),
    ],
)
def test_secret_of_one_issuer_for_claims_of_another(
    algorithms: tuple[str, ...], kid: object, reason: Reason
) -> None:
    """A code by one issuer's secret is no signature of another, whose algorithm it is not."""
    rsa_key = pem_key("other", private_pem(private_key("RS256")), kid="k")
    two = Verifier(
        [
            IssuerConfig(issuer=ISSUER, types=FOREIGN_TYPES),
            IssuerConfig(issuer="other", types=FOREIGN_TYPES, algorithms=frozenset(algorithms)),
        ],
        KeyRing([secret_key(ISSUER, SECRET, kid="k"), rsa_key]),
    )
    assert isinstance(two.verify_access(token(header={"kid": kid}), NOW), Verified)
    crossed = token({"iss": "other"}, {"kid": kid})
    assert two.verify_access(crossed, NOW) is reason
    forged = token({"iss": "other"}, {"kid": kid}, key=b"x" * 32)
    assert two.verify_access(forged, NOW) is Reason.SIGNATURE
    unknown = token({"iss": "other"}, {"kid": "new"}, alg="RS256")
    assert two.verify_access(unknown, NOW) is Reason.KEY_UNKNOWN
