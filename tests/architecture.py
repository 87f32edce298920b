"""The rules of the package's structure, as functions of its sources.

Each rule takes a `Package` and returns the violations it found, so that the rules can be tried on a
package that breaks them as well as on the real one.
"""

from __future__ import annotations

import ast
import re
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# Rooms from low to high. A module imports lower rooms and its own, never a room beside it.
LAYERS: Final = (
    ("", "claim_path", "errors", "secret", "tasks", "toml"),
    ("settings", "telemetry", "wire"),
    ("auth",),
    ("sessions",),
    ("issuers",),
    ("proxy", "api"),
    ("app",),
    ("demo",),
    ("cli",),
    ("__main__",),
)
# The folders of `sessions`: each imports only itself, those after it, and the files beside them.
SESSION_FOLDERS: Final = ("tiered", "redis", "memory", "revocation")
READS_SETTINGS: Final = frozenset(("settings", "app", "demo", "cli"))

# Rooms of pure code; outside them, a module is pure if its docstring says so.
PURE_ROOMS: Final = frozenset(("auth", "settings", "wire"))
# Event loop, socket, clock, randomness, environment, logging, and the libraries that need them.
IMPURE: Final = frozenset(
    (
        *("aiohttp", "asyncio", "concurrent", "logging", "multiprocessing", "os"),
        *("random", "redis", "secrets", "select", "signal", "socket", "ssl", "subprocess"),
        *("threading", "time", "uuid", "uvloop"),
    )
)
MODULE_LINES: Final = 320
FUNCTION_LINES: Final = 60
ONE_MODULE: Final = "one module because"  # how a docstring explains a longer module


class Import(NamedTuple):
    """One imported module; `typing` if only type checkers execute the import."""

    target: str
    typing: bool


class Package:
    """Modules by name, each with its source; `sidecar.auth.gate` for `sidecar/auth/gate.py`."""

    def __init__(self, sources: Mapping[str, str], trees: Mapping[str, ast.Module] = {}) -> None:
        self.sources = dict(sources)
        self.trees = {
            name: trees[name] if name in trees else ast.parse(source)
            for name, source in sources.items()
        }

    def with_lines(self, module: str, *lines: str) -> Package:
        """A copy in which `module` ends with these lines."""
        changed = "\n".join((self.sources[module], *lines, ""))
        others = {name: tree for name, tree in self.trees.items() if name != module}
        copy = Package({**self.sources, module: changed}, others)
        own = frozenset(copy._imports_of(module, copy.trees[module], typing=False))
        copy.imports = {**self.imports, module: own}
        return copy

    @cached_property
    def imports(self) -> dict[str, frozenset[Import]]:
        """What each module imports, also inside functions and only for types."""
        return {
            name: frozenset(self._imports_of(name, tree, typing=False))
            for name, tree in self.trees.items()
        }

    def inner(self, module: str) -> set[str]:
        """The modules of this package that `module` imports."""
        return {each.target for each in self.imports[module] if each.target in self.sources}

    def _imports_of(self, module: str, node: ast.AST, *, typing: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            origin = node.module or ""
            for alias in node.names:
                name = f"{origin}.{alias.name}"
                yield Import(name if name in self.sources else origin, typing)
        else:
            only_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for child in ast.iter_child_nodes(node):
                yield from self._imports_of(module, child, typing=typing or only_types)


def read_package(root: Path) -> Package:
    """The package in the folder `root`; an `__init__` is called by its package's name."""
    sources = {}
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources[name] = file.read_text("utf-8")
    return Package(sources)


def room(module: str) -> str:
    """The folder or file right under the package: what has a layer."""
    return module.split(".")[1] if "." in module else ""


def upward_imports(package: Package) -> list[str]:
    """Imports of a higher room, or of one beside it."""
    layers = {name: number for number, names in enumerate(LAYERS) for name in names}
    found = []
    for module in package.sources:
        own = room(module)
        if own not in layers:
            found.append(f"{module} is in a room without a layer")
            continue
        for target in sorted(package.inner(module)):
            other = room(target)
            lowest = layers[own] == layers.get(other) == 0
            if other != own and not lowest and layers.get(other, len(LAYERS)) >= layers[own]:
                found.append(f"{module} imports {target}")
    return found


def rules_for_nothing(package: Package) -> list[str]:
    """Rooms and folders that a rule names and that do not exist."""
    rooms = {room(module) for module in package.sources}
    named = {name for names in LAYERS for name in names} | READS_SETTINGS | PURE_ROOMS
    folders = {module.split(".")[2] for module in package.sources if module.count(".") > 2}
    return sorted(named - rooms) + sorted(set(SESSION_FOLDERS) - folders)


def circles(package: Package) -> list[str]:
    """Modules that import each other, directly or through others, and be it only for types."""
    found = []
    for start in package.sources:
        reached, left = set[str](), [start]
        while left:
            for target in package.inner(left.pop()) - reached:
                reached.add(target)
                left.append(target)
        if start in reached:
            found.append(start)
    return found


def session_imports(package: Package) -> list[str]:
    """Imports inside `sessions` that go against the order of its folders."""
    found: list[str] = []
    for module in package.sources:
        if room(module) != "sessions":
            continue
        found += [
            f"{module} imports {target}"
            for target in sorted(package.inner(module))
            if room(target) == "sessions" and _session_rank(target) < _session_rank(module)
        ]
    return found


def _session_rank(module: str) -> int:
    parts = module.split(".")
    folder = parts[2] if len(parts) > 2 else ""
    return SESSION_FOLDERS.index(folder) if folder in SESSION_FOLDERS else len(SESSION_FOLDERS)


def settings_readers(package: Package) -> list[str]:
    """Modules that import settings although they should receive plain arguments."""
    return [
        module
        for module in package.sources
        if room(module) not in READS_SETTINGS
        and any(room(target) == "settings" for target in package.inner(module))
    ]


def pure_modules(package: Package) -> list[str]:
    """Every module of a pure room, and every other one whose docstring says that it is pure."""
    return [
        module
        for module, tree in package.trees.items()
        if room(module) in PURE_ROOMS
        or re.search(r"\b[Pp]ure\b", ast.get_docstring(tree) or "") is not None
    ]


def impurities(package: Package, module: str) -> list[str]:
    """How a pure module reaches the outside world, itself or through what it imports."""
    found, seen = [], {module}
    left = [(module, module)]
    while left:
        current, path = left.pop()
        for target, typing in sorted(package.imports[current]):
            if typing:
                continue
            if target.split(".")[0] in IMPURE:
                found.append(f"{path} → {target}")
            # A package's `__init__` is executed before its modules.
            names = [target.rsplit(".", cut)[0] for cut in range(target.count("."))]
            for name in (each for each in names if each in package.sources and each not in seen):
                seen.add(name)
                left.append((name, f"{path} → {name}"))
    return found


def long_modules(package: Package) -> list[str]:
    """Modules over the limit whose docstring does not say why each is one."""
    return [
        module
        for module, source in package.sources.items()
        if len(source.splitlines()) > MODULE_LINES
        and ONE_MODULE not in " ".join((ast.get_docstring(package.trees[module]) or "").split())
    ]


def long_functions(package: Package) -> list[str]:
    """Functions over the limit, docstring included."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        f"{module}.{node.name}"
        for module, tree in package.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, functions) and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES
    ]
