"""Replays all seeds and earlier findings, and a fixed selection of mutated seeds."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from tests.fuzz.targets import CORPUS, TARGETS, Target, examine, mutations

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@every_target
def test_corpus(target: Target) -> None:
    """Earlier findings do not occur again."""
    check = target.load()
    for seed in target.seeds():
        examine(check, seed)


@every_target
def test_mutated_seeds(target: Target) -> None:
    """A short version of `make fuzz` finds nothing, which keeps the targets working."""
    check = target.load()
    inputs = mutations(target.seeds(), random.Random(target.name))
    for data in islice(inputs, target.mutated):
        try:
            examine(check, data)
        except Exception as error:
            error.add_note(f"input: {data!r}")
            raise


def test_every_corpus_has_a_target() -> None:
    """Every folder in the corpus belongs to a target."""
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
