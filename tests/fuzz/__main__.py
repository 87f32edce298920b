"""`python -m tests.fuzz [--seconds N] [target …]`: fuzz the targets in turn, N seconds in all."""

from __future__ import annotations

import argparse
import subprocess
import sys

from tests.fuzz.engine import run
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz every target for its share of the time; returns 1 if any target has a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "target", nargs="*", help=f"targets to fuzz (default: all): {', '.join(TARGETS)}"
    )
    parser.add_argument(
        "--seconds", type=int, default=60, help="time for all targets together (60)"
    )
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = set(arguments.target) - set(TARGETS)
    if unknown:
        parser.error(f"unknown target: {', '.join(sorted(unknown))}")
    names = arguments.target or list(TARGETS)
    share = max(arguments.seconds // len(names), 1)
    if arguments.here:
        for name in names:
            run(TARGETS[name], share)
        return 0
    failed = [name for name in names if not fuzz(name, share)]
    print("fuzzed:", ", ".join(names))  # noqa: T201
    if failed:
        print("found something:", ", ".join(failed), file=sys.stderr)  # noqa: T201
    return 1 if failed else 0


def fuzz(name: str, seconds: int) -> bool:
    """Fuzz a target in a separate process, which libFuzzer ends; returns True without a finding."""
    print(f"== {name}, {seconds} s", flush=True)  # noqa: T201
    argv = [sys.executable, "-m", "tests.fuzz", "--here", "--seconds", str(seconds), name]
    return subprocess.run(argv, check=False, stdin=subprocess.DEVNULL).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
