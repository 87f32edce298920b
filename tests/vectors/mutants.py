"""Plays vectors on a sidecar with one rule switched off: `python -m tests.vectors.mutants RULE…`.

Each rule has its own process, forked after all libraries but before any part of the sidecar has
been imported. Prints one line of JSON per rule: its name, and the first vector that failed or null.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
import uvloop

from tests.vectors.corpus import ANSWERS, CUTS, REQUESTS
from tests.vectors.rules import CONTROL, RULES, Rule

if TYPE_CHECKING:
    import types
    from collections.abc import Sequence

# The slow imports of the sidecar; none of these starts threads or a loop before it is used.
LIBRARIES: Final = (
    *(
        "aiohttp.web",
        "argon2",
        "bcrypt",
        "cryptography.x509",
        "jwt",
        "msgspec",
        "prometheus_client",
    ),
    *("redis.asyncio", "redis.asyncio.cluster", "redis.asyncio.sentinel"),
)
AT_ONCE: Final = 6
PATIENCE: Final = 2.0  # seconds; a vector without a verdict by then has failed
UNCHANGED_PATIENCE: Final = 30.0  # with all rules, no vector may fail because the machine is busy


class _Without(importlib.machinery.SourceFileLoader):
    """Compiles a module with a rule switched off."""

    def __init__(self, rule: Rule, path: str) -> None:
        super().__init__(rule.module, path)
        self._rule = rule

    def get_code(self, fullname: str) -> types.CodeType:
        """Return the changed code, bypassing the bytecode cache."""
        path = self.get_filename(fullname)
        return compile(self._rule.switch_off(self.get_data(path).decode()), path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the rule's module and loads it with the rule switched off."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the module's spec if it is the rule's module."""
        if fullname != self._rule.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.origin is None:
            return None
        loader = _Without(self._rule, spec.origin)
        return importlib.machinery.ModuleSpec(fullname, loader, origin=spec.origin)


async def first_failure(results: int, rule: Rule) -> NoReturn:
    """Report the first of the rule's vectors that fails in any cut, then exit.

    The process exits without a clean stop, which is not always possible without the rule.
    """
    from tests.vectors.stage import stage  # noqa: PLC0415 - imports the sidecar

    async with stage(UNCHANGED_PATIENCE if rule is CONTROL else PATIENCE) as staged:
        for name in rule.vectors:
            for cut in CUTS:
                try:
                    if name in REQUESTS:
                        # Another rule that refuses the message for another reason is no failure.
                        vector = msgspec.structs.replace(REQUESTS[name], reason=None)
                        await staged.play_request(vector, cut)
                    else:
                        await staged.play_answer(ANSWERS[name], cut)
                except Exception as fault:  # noqa: BLE001 - any verdict but the right one
                    tell(results, rule, f"{name} {cut}: {type(fault).__name__} {str(fault)[:200]}")
        tell(results, rule, None)


def tell(results: int, rule: Rule, failure: str | None) -> NoReturn:
    """Write the result and exit."""
    os.write(results, json.dumps([rule.name, failure]).encode() + b"\n")
    os._exit(0)


def fork(results: int, rule: Rule) -> None:
    """Play the rule's vectors with the rule switched off, in a new process."""
    if os.fork():
        return
    try:
        sys.meta_path.insert(0, _Finder(rule))
        uvloop.run(first_failure(results, rule))
    finally:
        os._exit(1)  # a fault of this program: no result is written


def main(names: Sequence[str]) -> None:
    """Play the rules, a few at a time, because some vectors fail only by timing out."""
    for library in LIBRARIES:
        importlib.import_module(library)
    if any(name.partition(".")[0] == "sidecar" for name in sys.modules):
        raise ImportError("part of the sidecar was imported before the rule was switched off")
    # Discard what the sidecars themselves print, such as their logs.
    results = os.dup(1)
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    rules = [rule for rule in (CONTROL, *RULES) if rule.name in names]
    for at, rule in enumerate(rules):
        if at >= AT_ONCE:
            os.wait()
        fork(results, rule)
    for _ in rules[-AT_ONCE:]:
        os.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
