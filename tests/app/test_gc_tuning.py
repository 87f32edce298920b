"""Incremental garbage collection: live objects are not scanned twice, and dead ones are freed."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from sidecar.app.gc_tuning import GcTuner

if TYPE_CHECKING:
    from collections.abc import Iterator

SLACK = 60_000


class Node:
    """A member of a reference cycle."""

    def __init__(self) -> None:
        self.self = self
        self.other: object = None


@pytest.fixture
def gc_tuner() -> Iterator[GcTuner]:
    """An installed tuner; afterwards the collector must be in its original state."""
    before = gc.get_threshold()
    made = GcTuner(SLACK)
    made.install()
    yield made
    made.remove()
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_what_survives_is_set_aside(gc_tuner: GcTuner) -> None:
    """A full collection freezes the survivors, so that the next one does not scan them."""
    aside = gc.get_freeze_count()
    kept = [Node() for _ in range(100)]
    gc.collect()
    assert gc.get_freeze_count() >= aside + 100
    assert len(gc.get_objects(2)) < 100
    assert repr(gc_tuner).startswith("<Collector, all is looked at in ")
    del kept


def test_young_garbage_goes_at_once(gc_tuner: GcTuner) -> None:
    """A cycle that dies before it was frozen is freed by the next collection."""
    dead = weakref.ref(Node())
    gc.collect()
    assert dead() is None
    assert gc_tuner


def test_old_garbage_goes_in_the_end(gc_tuner: GcTuner) -> None:
    """A cycle that dies after it was frozen is freed once all objects have been scanned again."""
    gc.collect()
    node = Node()
    gc.collect()  # freezes the node
    old = weakref.ref(node)
    del node
    gc.collect()
    assert old() is not None
    for _ in range((gc.get_freeze_count() + SLACK) // 20_000 + 1):
        gc.collect()
    assert old() is None
    assert gc_tuner
