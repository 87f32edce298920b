"""The journal's file: an entry that was reported as durable survives anything."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.sessions.revocation.entry import Entry, EntryKind
from sidecar.sessions.revocation.journal import BROKEN, WRITABLE_AGAIN, Journal
from sidecar.sessions.revocation.journal_file import HEADER, NAME, JournalFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ENTRIES = [Entry(EntryKind.SESSION, f"sid-{number}", 1.0, 2.0) for number in range(3)]
# Prints each entry once it is durable, until it is killed.
WRITER = """
import asyncio, sys
from pathlib import Path
from sidecar.sessions.revocation.entry import Entry, EntryKind
from sidecar.sessions.revocation.journal import Journal
from sidecar.sessions.revocation.journal_file import JournalFile

async def main():
    journal = Journal(JournalFile(Path(sys.argv[1])))
    async def write(number):
        await journal.add(Entry(EntryKind.SESSION, str(number), 1.0, 2.0))
        print(number, flush=True)
    number = 0
    while True:
        await asyncio.gather(*(write(number + more) for more in range(5)))
        number += 5

asyncio.run(main())
"""


def read_again(folder: Path) -> list[Entry]:
    """The entries that a new process finds."""
    file = JournalFile(folder)
    file.close()
    return file.entries


def filled(folder: Path, entries: Iterable[Entry] = ENTRIES) -> Path:
    """Write a journal with these entries. Returns its path."""
    file = JournalFile(folder)
    file.append(entries)
    file.close()
    return folder / NAME


def test_entries_are_read_again(tmp_path: Path) -> None:
    """They are read in order; file and folder are private."""
    path = filled(tmp_path / "state")
    assert read_again(tmp_path / "state") == ENTRIES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_new_journal_is_empty(tmp_path: Path) -> None:
    """A folder without a journal has no entries."""
    assert read_again(tmp_path) == []


def test_a_torn_last_line(tmp_path: Path) -> None:
    """Wherever it is torn, earlier entries are read; the rest is set aside and reported."""
    path = filled(tmp_path)
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in range(last + 1, len(whole)):
        path.write_bytes(whole[:end])
        file = JournalFile(tmp_path)
        file.close()
        assert file.entries == ENTRIES[:-1]
        assert f"{end - last} of {end} octets" in file.damage
        assert path.with_suffix(".damaged").read_bytes() == whole[last:end]
        assert read_again(tmp_path) == ENTRIES[:-1]  # opening it repaired the file


def test_a_damaged_line(tmp_path: Path) -> None:
    """The lines around it are still read."""
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"sid-1", b"sid-7"))
    assert read_again(tmp_path) == [ENTRIES[0], ENTRIES[2]]


@given(spot=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_invents_nothing(
    tmp_path_factory: pytest.TempPathFactory, spot: int, bit: int
) -> None:
    """Every entry that is read was written."""
    folder = tmp_path_factory.mktemp("journal")
    path = filled(folder)
    data = bytearray(path.read_bytes())
    data[spot % len(data)] ^= 1 << bit
    path.write_bytes(data)
    assert set(map(str_of, read_again(folder))) <= set(map(str_of, ENTRIES))


def str_of(entry: Entry) -> str:
    """All fields of an entry, as text."""
    return f"{entry.kind} {entry.name} {entry.at} {entry.until}"


def test_a_journal_of_another_version(tmp_path: Path) -> None:
    """The file is set aside, not overwritten."""
    (tmp_path / NAME).write_bytes(b"auth-sidecar revocations 2\n?")
    file = JournalFile(tmp_path)
    file.close()
    assert file.entries == []
    assert "not a journal of this version" in file.damage
    aside = (tmp_path / NAME).with_suffix(".damaged")
    assert aside.read_bytes() == b"auth-sidecar revocations 2\n?"


def test_a_journal_of_the_previous_release(tmp_path: Path) -> None:
    """The names of kinds and fields on disk do not change."""
    text = b'{"kind":"denial","what":"name","at":1.0,"until":2.0}'
    (tmp_path / NAME).write_bytes(HEADER + b"%08x %b\n" % (crc32(text), text))
    assert read_again(tmp_path) == [Entry(EntryKind.REVOCATION, "name", 1.0, 2.0)]
    assert text in (tmp_path / NAME).read_bytes()  # which the previous release can read


def test_two_processes_cannot_share_it(tmp_path: Path) -> None:
    """Opening a journal in use fails. It succeeds once the first process has closed it."""
    first = JournalFile(tmp_path)
    with pytest.raises(BlockingIOError, match="no other sidecar"):
        JournalFile(tmp_path)
    first.close()
    read_again(tmp_path)


def test_repr_shows_no_entry(tmp_path: Path) -> None:
    """It shows only the path and the number of lines."""
    filled(tmp_path)
    file = JournalFile(tmp_path)
    assert repr(file) == f"<JournalFile {tmp_path / NAME}, 3 lines>"
    file.close()


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Each entry that was reported as durable is read again."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        reported = [child.stdout.readline().strip() for _ in range(50)]
        child.send_signal(signal.SIGKILL)
        reported += [line.strip() for line in child.stdout if line.endswith("\n")]
    assert {entry.name for entry in read_again(tmp_path)} >= set(reported)


async def test_concurrent_entries_share_a_sync(tmp_path: Path) -> None:
    """A hundred concurrent entries take a few syncs, not a hundred."""
    file = Counting(tmp_path)
    journal = Journal(file)
    entries = [Entry(EntryKind.SESSION, str(number), 1.0, 2.0) for number in range(100)]
    await asyncio.gather(*map(journal.add, entries))
    assert file.appended < 10
    await journal.close()
    assert read_again(tmp_path) == entries


async def test_received_entries_are_removed(tmp_path: Path) -> None:
    """The file is empty once Redis has received every entry."""
    journal = Journal(JournalFile(tmp_path))
    for entry in ENTRIES:
        await journal.add(entry)
    for entry in ENTRIES:
        await journal.done(entry)
    assert (tmp_path / NAME).read_bytes() == HEADER
    await journal.close()


async def test_pending_entries_survive_a_restart(tmp_path: Path) -> None:
    """A new journal on the same file has the same pending entries."""
    journal = Journal(JournalFile(tmp_path))
    for entry in ENTRIES:
        await journal.add(entry)
    await journal.close()
    again = Journal(JournalFile(tmp_path))
    assert again.pending() == ENTRIES
    await again.close()


async def test_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, `add` still works, and all is written once there is room again."""
    file = Counting(tmp_path)
    journal = Journal(file)
    file.full = True
    with caplog.at_level(logging.INFO, "sidecar.sessions"):
        for entry in ENTRIES:
            await journal.add(entry)
        assert (journal.broken, journal.pending()) == (True, ENTRIES)
        file.full = False
        more = Entry(EntryKind.USER, "alice", 1.0, 2.0)
        await journal.add(more)
    assert caplog.messages == [BROKEN, WRITABLE_AGAIN]
    assert not journal.broken
    await journal.close()
    assert read_again(tmp_path) == [*ENTRIES, more]


async def test_the_file_does_not_grow_forever(tmp_path: Path) -> None:
    """The file is rewritten without the entries that are done."""
    file = JournalFile(tmp_path)
    journal = Journal(file)
    stays = Entry(EntryKind.SESSION, "stays", 1.0, 2.0)
    await journal.add(stays)
    for start in range(0, 2000, 100):
        entries = [Entry(EntryKind.SESSION, str(start + more), 1.0, 2.0) for more in range(100)]
        await asyncio.gather(*map(journal.add, entries))
        for entry in entries:
            await journal.done(entry)
    assert file.lines < 1500
    await journal.close()
    assert read_again(tmp_path)[0] == stays


class Counting(JournalFile):
    """Counts its syncs. `full` makes it fail like a full disk."""

    appended = 0
    full = False

    def append(self, entries: Iterable[Entry]) -> None:
        """Append entries, unless the disk is full."""
        self.appended += 1
        if self.full:
            raise OSError(28, os.strerror(28))
        super().append(entries)

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Replace the entries, unless the disk is full."""
        if self.full:
            raise OSError(28, os.strerror(28))
        super().rewrite(entries)
