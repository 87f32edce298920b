"""Where an issuer's keys are, by its metadata; and how they are fetched from protected servers."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from sidecar.issuers.discovery import jwks_url_of, metadata_urls
from sidecar.issuers.documents import Access
from sidecar.issuers.jwks_fetch import JwksEndpoint
from tests.issuers.test_jwks_fetch import Reader
from tests.peers.certificates import certificate
from tests.peers.key_server import KeyServer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        pytest.param(
            "https://id.example",
            (
                "https://id.example/.well-known/openid-configuration",
                "https://id.example/.well-known/oauth-authorization-server",
            ),
            id="origin",
        ),
        pytest.param(
            "https://id.example/realms/main/",
            (
                "https://id.example/realms/main/.well-known/openid-configuration",
                "https://id.example/.well-known/oauth-authorization-server/realms/main",
            ),
            id="path-and-final-slash",
        ),
    ],
)
def test_where_the_metadata_is(issuer: str, expected: tuple[str, ...]) -> None:
    """OpenID Connect appends to the issuer, RFC 8414 inserts in front of its path."""
    assert metadata_urls(issuer) == expected


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param(b"[]", "expected metadata: a JSON object", id="no-object"),
        pytest.param(b'{"jwks_uri": "https://a/k"}', "exactly the configured", id="no-issuer"),
        pytest.param(
            b'{"issuer": "https://a/", "jwks_uri": "https://a/k"}',
            "exactly the configured issuer",
            id="another-issuer",
        ),
        pytest.param(b'{"issuer": "https://a"}', '"jwks_uri" of https', id="no-keys"),
        pytest.param(
            b'{"issuer": "https://a", "jwks_uri": 1}', '"jwks_uri" of https', id="no-text"
        ),
        pytest.param(
            b'{"issuer": "https://a", "jwks_uri": "http://a/k"}', "of https$", id="less-protected"
        ),
        pytest.param(
            b'{"issuer": "https://a", "jwks_uri": "file:///etc/passwd"}', "of https$", id="file"
        ),
    ],
)
def test_metadata_that_is_refused(document: bytes, message: str) -> None:
    """Metadata of another issuer, or without a URL as protected as the issuer's, is refused."""
    with pytest.raises(ValueError, match=message):
        jwks_url_of("https://a", document)


@pytest.mark.parametrize(
    "path",
    [
        "/realms/main/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/realms/main",
    ],
)
async def test_discovery(path: str) -> None:
    """Without a URL of the keys, the issuer's metadata at either place says where they are."""
    async with KeyServer() as server:
        server.publish(one="ES256")
        issuer = f"{server.origin}/realms/main"
        server.metadata = {path: {"issuer": issuer, "jwks_uri": server.url}}
        reader = Reader(JwksEndpoint(issuer, ""))
        await reader.source.start(reader.tasks)
        assert reader.installed == [(issuer, ["one"])]
        await reader.tasks.close()


async def test_no_metadata(caplog: pytest.LogCaptureFixture) -> None:
    """Without metadata the issuer has no keys, and the log says what was expected."""
    async with KeyServer() as server:
        reader = Reader(JwksEndpoint(server.origin, ""))
        await reader.source.start(reader.tasks)
        assert reader.installed == []
        (record,) = caplog.records
        assert "expected status 200" in record.getMessage()
        assert vars(record)["url"] == "from the issuer's metadata"
        await reader.tasks.close()


async def test_a_private_authority_and_a_bearer_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Kubernetes' API server has a private authority and wants a token, which it replaces."""
    file = certificate(tmp_path, "localhost")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(file)
    token = tmp_path / "token"
    token.write_text("first\n")
    async with KeyServer(tls) as server:
        server.publish(one="ES256")
        trusting = Access(ca_file=str(file), token_file=str(token))
        reader = Reader(JwksEndpoint("i", server.url, (), trusting))
        await reader.source.start(reader.tasks)
        assert reader.kids == ["one"]
        token.write_text("second")
        again = Reader(JwksEndpoint("i", server.url, (), trusting))
        await again.source.start(again.tasks)
        sent = [request.headers["Authorization"] for request in server.requests]
        assert sent == ["Bearer first", "Bearer second"]
        stranger = Reader(JwksEndpoint("i", server.url, (), Access(token_file=str(token))))
        await stranger.source.start(stranger.tasks)
        assert stranger.installed == []
        assert "certificate" in caplog.text.lower()
        for each in (reader, again, stranger):
            await each.tasks.close()


@pytest.mark.parametrize(
    "content", [b"", b"two tokens", b"line\nbreak", "umlaut-\u00fc".encode()], ids=repr
)
async def test_a_file_without_a_token(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is sent, and the log names the file but not its content."""
    token = tmp_path / "token"
    token.write_bytes(content)
    async with KeyServer() as server:
        reader = Reader(JwksEndpoint("i", server.url, (), Access(token_file=str(token))))
        await reader.source.start(reader.tasks)
        assert server.requests == []
        assert f"expected one token in {token}" in caplog.text
        await reader.tasks.close()
