"""A file counts as changed when its content differs and is no longer being written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.app.file_watch import FileWatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _write(folder: Path) -> None:
    (folder / "a").write_text("other")


def _same_size(folder: Path) -> None:
    (folder / "a").write_text("ENO")


def _rename(folder: Path) -> None:
    (folder / "new").write_text("one")
    (folder / "new").rename(folder / "a")


def _remove(folder: Path) -> None:
    (folder / "a").unlink()


def _appear(folder: Path) -> None:
    (folder / "b").write_text("")


def _switch(folder: Path) -> None:
    """Replace the link to the folder, as Kubernetes does when a mounted Secret changes."""
    (folder / "2").mkdir()
    (folder / "2" / "c").write_text("two")
    (folder / "next").symlink_to("2")
    (folder / "next").rename(folder / "data")


@pytest.mark.parametrize("change", [_write, _same_size, _rename, _remove, _appear, _switch])
def test_a_change(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """A change is reported from the second check on, and until it is taken."""
    (tmp_path / "a").write_text("one")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "c").write_text("one")
    (tmp_path / "data").symlink_to("1")
    watch = FileWatch(str(tmp_path / name) for name in ("a", "b", "data/c"))
    assert [watch.has_changed() for _ in range(2)] == [False, False]
    change(tmp_path)
    assert [watch.has_changed() for _ in range(3)] == [False, True, True]
    watch.take()
    assert [watch.has_changed() for _ in range(2)] == [False, False]


def test_who_writes_is_waited_for(tmp_path: Path) -> None:
    """A file that differs at every check does not count as changed yet."""
    file = tmp_path / "a"
    file.write_text("")
    watch = FileWatch([str(file)])
    for size in range(1, 5):
        file.write_text("x" * size)
        assert not watch.has_changed()
    assert watch.has_changed()


def test_other_files(tmp_path: Path) -> None:
    """A file already watched keeps its last taken state; a new one starts in its current state."""
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_text("")
    watch = FileWatch([str(one)])
    watch.take()
    one.write_text("changed while it was read")
    two.write_text("")
    watch.turn_to([str(one), str(two)])
    assert [watch.has_changed() for _ in range(2)] == [False, True]
    watch.turn_to([str(two)])
    assert [watch.has_changed() for _ in range(2)] == [False, False]
