"""Fetches the JSON documents that issuers publish: key sets and metadata.

Owns how a document is fetched (authorities, credentials, size and time limits). Reads no document.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from sidecar import __version__

LONGEST: Final = 512 * 1024  # bytes of a document
_LONGEST_TOKEN: Final = 16 * 1024  # bytes of a file with a bearer token

_HEADERS: Final = {
    "Accept": "application/jwk-set+json, application/json",
    "Accept-Encoding": "identity",  # a compressed document could decompress to any size
    "User-Agent": f"auth-sidecar/{__version__}",
}


@dataclass(frozen=True, slots=True)
class Access:
    """How an issuer's documents are reached.

    `ca_file` has the authorities of its certificate (PEM; empty: the system's). `token_file` has a
    bearer token to send; it is read for each fetch, because Kubernetes replaces such tokens.
    """

    ca_file: str = ""
    token_file: str = ""

    def tls(self) -> ssl.SSLContext:
        """A context for one fetch; takes up to 20 ms. Raises OSError if the file cannot be used."""
        return ssl.create_default_context(cafile=self.ca_file or None)

    def headers(self) -> dict[str, str]:
        """The headers of a request. Raises OSError, or ValueError if the file has no token."""
        if not self.token_file:
            return _HEADERS
        with Path(self.token_file).open("rb") as file:
            token = file.read(_LONGEST_TOKEN).strip()
        if not token or not token.isascii() or len(token.split()) != 1:
            raise ValueError(f"expected one token in {self.token_file}")
        return {**_HEADERS, "Authorization": f"Bearer {token.decode('ascii')}"}


async def fetch_document(url: str, timeout: float, access: Access) -> bytes:
    """The document at a URL: a 200 answer without redirects, of at most `LONGEST` bytes.

    Raises ValueError for any other answer, TimeoutError after `timeout` seconds in total, OSError
    for a file that cannot be read, and what aiohttp raises.
    """
    encrypted = urlsplit(url).scheme == "https"
    tls = await asyncio.to_thread(access.tls) if encrypted else True
    session = aiohttp.ClientSession(
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=access.headers(),
        timeout=aiohttp.ClientTimeout(total=timeout),
        connector=aiohttp.TCPConnector(ssl=tls),
    )
    async with session, session.get(url, allow_redirects=False) as answer:
        if answer.status != 200:
            raise ValueError(
                f"expected status 200 (redirects are not followed); got {answer.status}"
            )
        document = bytearray()
        async for part in answer.content.iter_any():
            document += part
            if len(document) > LONGEST:
                raise ValueError(f"expected a document of at most {LONGEST} bytes")
        return bytes(document)
