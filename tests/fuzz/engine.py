"""Runs one target for a while: guided by coverage where atheris is installed, else blindly.

What is found is written to the target's folder of the corpus, to be replayed by the tests.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from tests.fuzz.targets import CORPUS, FOLDER, LONGEST, examine, mutations

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fuzz.targets import Target

WORK: Final = FOLDER.parent.parent / ".cache" / "fuzz"  # what was worth keeping, between runs


def run(target: Target, seconds: int) -> None:
    """Fuzz for about this many seconds. Ends the process, with a fault when something is found."""
    if find_spec("atheris") is not None:
        run_guided(import_module("atheris"), target, seconds)
    else:
        run_blindly(target, seconds)


def run_guided(atheris: Any, target: Target, seconds: int) -> None:
    """By libFuzzer, which sees every branch that the package takes."""
    work = WORK / target.name
    work.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["sidecar"]):
        check = target.load()
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={CORPUS / target.name}/",
        *("-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0"),
        *(str(work), str(CORPUS / target.name)),
    ]
    atheris.Setup([sys.argv[0], *options], lambda data: examine(check, data))
    atheris.Fuzz()


def run_blindly(target: Target, seconds: int) -> None:
    """By mutation of the seeds alone."""
    check = target.load()
    end = time.monotonic() + seconds
    seed = int.from_bytes(os.urandom(8))
    count = 0
    for data in mutations(target.seeds(), random.Random(seed)):
        if time.monotonic() > end:
            break
        count += 1
        try:
            examine(check, data)
        except Exception:
            print(f"found: {keep(target, data)}", file=sys.stderr)  # noqa: T201
            raise
    print(f"{count} inputs, not guided: atheris is not installed", file=sys.stderr)  # noqa: T201


def keep(target: Target, data: bytes) -> Path:
    """Write a found case into the corpus; returns where."""
    path = CORPUS / target.name / f"crash-{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"
    path.write_bytes(data)
    return path
