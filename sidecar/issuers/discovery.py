"""Finds where an issuer publishes its keys, from its metadata (OpenID Connect Discovery, RFC 8414).

Pure: the caller fetches the documents.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from sidecar.auth.strict_json import parse_object

_OPENID: Final = "/.well-known/openid-configuration"
_OAUTH: Final = "/.well-known/oauth-authorization-server"


def metadata_urls(issuer: str) -> tuple[str, str]:
    """Where the metadata of an issuer may be, in the order in which to try.

    OpenID Connect Discovery 1.0 section 4 appends to the issuer; RFC 8414 section 3.1 inserts in
    front of its path.
    """
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    return (f"{origin}{path}{_OPENID}", f"{origin}{_OAUTH}{path}")


def jwks_url_of(issuer: str, document: bytes) -> str:
    """The URL of the keys that this metadata names.

    Raises ValueError if the metadata is another issuer's (RFC 8414 section 3.3), or if the URL is
    less protected than the issuer's own.
    """
    metadata = parse_object(document)
    if metadata is None:
        raise ValueError("expected metadata: a JSON object")
    if metadata.get("issuer") != issuer:
        raise ValueError('expected metadata whose "issuer" is exactly the configured issuer')
    url = metadata.get("jwks_uri")
    if isinstance(url, str):
        parts = urlsplit(url)
        if parts.hostname and parts.scheme in _schemes(issuer):
            return url
    raise ValueError(f'expected metadata with a "jwks_uri" of {" or ".join(_schemes(issuer))}')


def _schemes(issuer: str) -> tuple[str, ...]:
    return ("https",) if urlsplit(issuer).scheme == "https" else ("https", "http")
