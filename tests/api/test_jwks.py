"""The JWKS endpoint publishes public keys, which may be cached, and never a shared secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from sidecar.auth.asymmetric import pem_key
from sidecar.auth.symmetric import secret_key
from tests.api.control_plane import ISSUER, problem

if TYPE_CHECKING:
    from sidecar.auth.keys import Key
    from tests.api.control_plane import Api


@pytest.fixture(scope="module")
def key() -> Key:
    """A private key for ES256."""
    pem = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    return pem_key(ISSUER, pem)


async def test_public_keys(api: Api, key: Key) -> None:
    """The published key verifies signatures; private parts and shared secrets are not published."""
    api.current.published_keys = (key, secret_key(ISSUER, b"x" * 32))
    answer = await api.client.get("/.well-known/jwks.json")
    assert answer.status == 200
    assert answer.content_type == "application/json"
    assert "max-age=" in answer.headers["Cache-Control"]
    document = await answer.json()
    [published] = jwt.PyJWKSet.from_dict(document).keys
    assert published.key_id == key.kid
    assert "d" not in document["keys"][0]
    signature = key.sign(b"message")
    assert published.Algorithm.verify(b"message", published.key, signature)


async def test_secrets_only(api: Api) -> None:
    """If only a shared secret is configured, the endpoint returns a 404 that says so."""
    api.current.published_keys = (secret_key(ISSUER, b"x" * 32),)
    answer = await api.client.get("/.well-known/jwks.json")
    assert answer.status == 404
    assert "shared secret" in (await problem(answer))["detail"]
    assert answer.headers["Cache-Control"] == "no-store"
