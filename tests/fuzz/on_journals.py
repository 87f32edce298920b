"""The journal file: any content is read; valid entries are kept, the rest is set aside.

Input: the content after the header; a line that begins with `~` gets the checksum that it needs. If
the first octet is `!`, the header is left out.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from sidecar.sessions.revocation.journal_file import HEADER, NAME, JournalFile
from tests.fuzz.targets import MEMORY

if TYPE_CHECKING:
    from sidecar.sessions.revocation.entry import Entry


def check(data: bytes) -> None:
    """Open the file, open it again, and open it with its end torn off."""
    content = data[1:] if data[:1] == b"!" else HEADER + b"".join(map(sealed, data.split(b"\n")))
    entries, damage, aside = opened(content)
    assert len(entries) <= sum(map(is_sealed, content.split(b"\n")))
    if damage:
        assert aside is not None
        assert aside in content or len(aside) < len(content)
    else:
        assert aside is None
        assert content in {b"", HEADER} or len(entries) == content.count(b"\n") - 1
    torn, _, _ = opened(content[: len(content) * 2 // 3])
    assert torn == entries[: len(torn)]


def sealed(line: bytes) -> bytes:
    """The line as it is written to the file."""
    if line[:1] != b"~":
        return line + b"\n" if line else b""
    return b"%08x %b\n" % (crc32(line[1:]), line[1:])


def is_sealed(line: bytes) -> bool:
    """Whether a line has the correct checksum."""
    checksum, _, text = line.partition(b" ")
    return checksum == b"%08x" % crc32(text)


def opened(content: bytes) -> tuple[list[Entry], str, bytes | None]:
    """The entries, the damage message and the content set aside; a second open finds no damage."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        path = Path(name) / NAME
        if content:
            path.write_bytes(content)
        first = JournalFile(Path(name))
        first.close()
        second = JournalFile(Path(name))
        second.close()
        assert second.entries == first.entries
        assert not second.damage
        aside = path.with_suffix(".damaged")
        return first.entries, first.damage, aside.read_bytes() if aside.exists() else None
