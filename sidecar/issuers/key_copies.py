"""Copies in a folder of the key sets last fetched, which let a start succeed without the issuer.

A process that can write to the folder can add keys, so it must be as protected as the secrets.
"""

from __future__ import annotations

import os
import tempfile
from hashlib import sha256
from pathlib import Path

from sidecar.issuers.documents import LONGEST


class KeyCopies:
    """One file for each endpoint in `folder`, which is made when the first copy is written.

    An endpoint is an issuer and the URL of its keys, empty if its metadata names the URL: the keys
    of an earlier URL may be those of a service that is no longer trusted.
    """

    __slots__ = ("_folder",)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"<KeyCopies in {str(self._folder)!r}>"

    def read(self, issuer: str, url: str) -> bytes | None:
        """The copy of an endpoint's key set; None if there is none. Raises OSError."""
        try:
            with self._file(issuer, url).open("rb") as file:
                return file.read(LONGEST)
        except FileNotFoundError:
            return None

    def write(self, issuer: str, url: str, document: bytes) -> None:
        """Replace the copy, so that a reader sees the old one or the new one. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(document)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._file(issuer, url))
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

    def _file(self, issuer: str, url: str) -> Path:
        return self._folder / f"{sha256(f'{issuer} {url}'.encode()).hexdigest()[:32]}.json"
