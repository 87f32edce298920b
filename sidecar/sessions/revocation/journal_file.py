"""The journal's file: lines with a checksum each, appended and synced. Blocking; of one thread.

`revocations.journal` in a folder of its own, mode 0600. With SESSION_KEY=token it holds tokens, as
Redis does then, so that the folder is as secret as Redis.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final
from zlib import crc32

import msgspec

from sidecar.sessions.revocation.journal import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NAME: Final = "revocations.journal"
HEADER: Final = b"auth-sidecar revocations 1\n"

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Entry)


class JournalFile:
    """The file in `folder`, which is made if need be and locked. `close` it.

    Raises OSError, also if another process has it. `damage` says what could not be read of it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._path = folder / NAME
        self._lock = os.open(folder / f"{NAME}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._end: int | None = None
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
        """Write these behind the others; they are on disk when this returns. Raises OSError."""
        if self._end is None:
            raise OSError("the journal's file is closed")
        lines = [_line(entry) for entry in entries]
        _write(self._end, b"".join(lines))
        os.fdatasync(self._end)
        self.lines += len(lines)

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Have these in it and nothing else, in one step. Raises OSError."""
        lines = [_line(entry) for entry in entries]
        new = self._path.with_suffix(".new")
        end = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write(end, HEADER + b"".join(lines))
            os.fsync(end)
            new.rename(self._path)
            self._sync_folder()
        except BaseException:
            os.close(end)
            raise
        if self._end is not None:
            os.close(self._end)
        self._end = end
        self.lines = len(lines)

    def close(self) -> None:
        """Give the file and the lock back."""
        for number in (self._end, self._lock):
            if number is not None and number >= 0:
                os.close(number)
        self._end, self._lock = None, -1

    def _read(self) -> list[Entry]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        if not data.startswith(HEADER):
            # Also of another version: whoever can read it shall find it.
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
        end = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write(end, data)
            os.fsync(end)
        finally:
            os.close(end)

    def _sync_folder(self) -> None:
        number = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _line(entry: Entry) -> bytes:
    text = _ENCODER.encode(entry)
    return b"%08x %b\n" % (crc32(text), text)


def _entry(line: bytes) -> Entry | None:
    """The entry of a line; None if it is not as it was written."""
    checksum, _, text = line.removesuffix(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % crc32(text):
        return None
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _write(end: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(end, view) :]
