"""The journal's file: one checksummed line per entry, appended and synced.

Blocking; used by one thread at a time. The file is `revocations.journal`, mode 0600, in a folder
that no other sidecar uses. With SESSION_KEY=token it holds tokens, as Redis does, so the folder is
as secret as Redis.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final
from zlib import crc32

import msgspec

from sidecar.sessions.revocation.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NAME: Final = "revocations.journal"
HEADER: Final = b"auth-sidecar revocations 1\n"

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Entry)


class JournalFile:
    """Opens the file in `folder`, which it creates if necessary and locks. `close` releases both.

    Raises OSError, in particular if another process holds the lock. `damage` describes what could
    not be read.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._path = folder / NAME
        self._lock = os.open(folder / f"{NAME}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._fd: int | None = None
        self.lines = 0
        self.damage = ""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.entries = self._read()
            self.rewrite(self.entries)
        except BlockingIOError as error:
            self.close()
            text = "a folder that no other sidecar uses"
            raise BlockingIOError(error.errno, text, str(folder)) from None
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<JournalFile {self._path}, {self.lines} lines>"

    def append(self, entries: Iterable[Entry]) -> None:
        """Append entries; they are on disk when this returns. Raises OSError."""
        if self._fd is None:
            raise OSError("the journal's file is closed")
        lines = [_line(entry) for entry in entries]
        _write(self._fd, b"".join(lines))
        os.fdatasync(self._fd)
        self.lines += len(lines)

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Replace the contents by these entries, atomically. Raises OSError."""
        lines = [_line(entry) for entry in entries]
        new = self._path.with_suffix(".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write(fd, HEADER + b"".join(lines))
            os.fsync(fd)
            new.rename(self._path)
            self._sync_folder()
        except BaseException:
            os.close(fd)
            raise
        if self._fd is not None:
            os.close(self._fd)
        self._fd = fd
        self.lines = len(lines)

    def close(self) -> None:
        """Release the file and the lock."""
        for fd in (self._fd, self._lock):
            if fd is not None and fd >= 0:
                os.close(fd)
        self._fd, self._lock = None, -1

    def _read(self) -> list[Entry]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        if not data.startswith(HEADER):
            # Including a journal of another version, which that version can still read.
            self._set_aside(data)
            self.damage = f"not a journal of this version: {len(data)} octets set aside"
            return []
        entries, bad = [], b""
        for line in data[len(HEADER) :].splitlines(keepends=True):
            entry = _entry(line)
            if entry is None:
                bad += line
            else:
                entries.append(entry)
        if bad:
            self._set_aside(bad)
            self.damage = f"{len(bad)} of {len(data)} octets could not be read and were set aside"
        return entries

    def _set_aside(self, data: bytes) -> None:
        aside = self._path.with_suffix(".damaged")
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)

    def _sync_folder(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _line(entry: Entry) -> bytes:
    text = _ENCODER.encode(entry)
    return b"%08x %b\n" % (crc32(text), text)


def _entry(line: bytes) -> Entry | None:
    """The entry of a line, or None if the line is damaged."""
    checksum, _, text = line.removesuffix(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % crc32(text):
        return None
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
