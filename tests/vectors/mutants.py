"""Plays vectors on a sidecar without one of its rules: `python -m tests.vectors.mutants RULE…`.

Each rule has a process of its own, forked when all libraries are there and nothing of the sidecar
yet. Writes a line of JSON for each: the rule, and the vector that failed first, or null.
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

import uvloop

from tests.vectors.corpus import ANSWERS, CUTS, REQUESTS
from tests.vectors.rules import CONTROL, RULES, Rule

if TYPE_CHECKING:
    import types
    from collections.abc import Sequence

# What makes a sidecar slow to import; none of it has threads or a loop before it is used.
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
PATIENCE: Final = 2.0  # seconds; a vector that comes to no verdict without the rule has failed


class _Without(importlib.machinery.SourceFileLoader):
    """Compiles a module without a rule."""

    def __init__(self, rule: Rule, path: str) -> None:
        super().__init__(rule.module, path)
        self._rule = rule

    def get_code(self, fullname: str) -> types.CodeType:
        """The changed code; never from a cache, nor into one."""
        path = self.get_filename(fullname)
        return compile(self._rule.switch_off(self.get_data(path).decode()), path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the rule's module, and has it loaded without the rule."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Where it is, if it is the rule's module."""
        if fullname != self._rule.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.origin is None:
            return None
        loader = _Without(self._rule, spec.origin)
        return importlib.machinery.ModuleSpec(fullname, loader, origin=spec.origin)


async def first_failure(results: int, rule: Rule) -> NoReturn:
    """Tell which of the rule's vectors fails first, in any cut; then end, without any ceremony.

    What runs without a rule need not be stopped in good order, nor could it always be.
    """
    from tests.vectors.stage import stage  # noqa: PLC0415 - imports the sidecar

    async with stage(PATIENCE) as staged:
        for name in rule.vectors:
            for cut in CUTS:
                try:
                    if name in REQUESTS:
                        await staged.play_request(REQUESTS[name], cut)
                    else:
                        await staged.play_answer(ANSWERS[name], cut)
                except Exception as fault:  # noqa: BLE001 - any verdict but the right one
                    tell(results, rule, f"{name} {cut}: {type(fault).__name__} {str(fault)[:200]}")
        tell(results, rule, None)


def tell(results: int, rule: Rule, failure: str | None) -> NoReturn:
    """Write the result, and end this process."""
    os.write(results, json.dumps([rule.name, failure]).encode() + b"\n")
    os._exit(0)


def fork(results: int, rule: Rule) -> None:
    """Play its vectors without it, in a process of their own."""
    if os.fork():
        return
    try:
        sys.meta_path.insert(0, _Finder(rule))
        uvloop.run(first_failure(results, rule))
    finally:
        os._exit(1)  # a fault of this program: no result is told


def main(names: Sequence[str]) -> None:
    """Some at a time: a vector that fails by waiting in vain leaves the processor to others."""
    for library in LIBRARIES:
        importlib.import_module(library)
    if any(name.partition(".")[0] == "sidecar" for name in sys.modules):
        raise ImportError("a part of the sidecar is there before its rule is switched off")
    # What the sidecars themselves print, such as their logs, is of no interest.
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
