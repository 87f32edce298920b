"""Runs one target for a while: guided by coverage if atheris is installed, otherwise blindly.

Findings are written to the target's folder in the corpus, so that the tests replay them.
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

WORK: Final = FOLDER.parent.parent / ".cache" / "fuzz"  # inputs kept between runs


def run(target: Target, seconds: int) -> None:
    """Fuzz for about this many seconds. Ends the process, with an error if there is a finding."""
    if find_spec("atheris") is not None:
        run_guided(import_module("atheris"), target, seconds)
    else:
        run_blindly(target, seconds)


def run_guided(atheris: Any, target: Target, seconds: int) -> None:
    """Fuzz with libFuzzer, which observes every branch that the package takes."""
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
    """Fuzz by mutating the seeds, without feedback."""
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
    """Write a finding to the corpus; returns its path."""
    path = CORPUS / target.name / f"crash-{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"
    path.write_bytes(data)
    return path
