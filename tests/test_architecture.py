"""The shape of the package: who imports whom, what is pure, how large things get, what is told."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
import yaml

from sidecar.auth.reason import Reason
from sidecar.settings import Settings
from sidecar.telemetry.exposition import render
from tests.peers.all_metrics import all_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent
FILES: Final = sorted((ROOT / "sidecar").rglob("*.py"))

# A module imports lower layers and its own folder; the files of layer 0 may import each other.
LAYERS: Final = {
    **dict.fromkeys(
        (
            "",
            "access_log",
            "collector",
            "errors",
            "exposition",
            "file_watch",
            "logs",
            "metrics",
            "secret",
            "settings",
            "tasks",
            "toml",
        ),
        0,
    ),
    "wire": 1,
    "auth": 2,
    "sessions": 3,
    **dict.fromkeys(("proxy", "api", "kube"), 4),
    "assembly": 5,
    "app": 6,
    "demo": 7,
    "cli": 8,
    "__main__": 9,
}
READS_SETTINGS: Final = {"assembly", "app", "demo", "cli"}
# No event loop, socket, clock, randomness, environment or logging: all of that comes as arguments.
PURE: Final = re.compile(
    r"sidecar\.(errors|secret|wire\..*|auth\..*|sessions\.(store|near|breaker|codec|denied|guards)|proxy\.pool"
    r"|kube\.inject)"
)
IMPURE: Final = {
    *("aiohttp", "asyncio", "concurrent", "logging", "multiprocessing", "os", "random", "redis"),
    *("secrets", "select", "signal", "socket", "ssl", "subprocess", "threading", "time", "uvloop"),
}
MODULE_LINES: Final = 320
FUNCTION_LINES: Final = 60
MUTATORS: Final = {
    *("add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove"),
    *("setdefault", "update", "appendleft", "popleft"),
}


def module_name(file: Path) -> str:
    """`sidecar.auth.gate` for its file; a package's `__init__` has the package's name."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES: Final = {module_name(file): file for file in FILES}
every_module = pytest.mark.parametrize("module", MODULES)


@cache
def tree(module: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(MODULES[module].read_text("utf-8"))


def imports(module: str) -> Iterator[str]:
    """Every module that this one imports, also inside functions and for types alone."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            origin = node.module or ""
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield inner if inner in MODULES else origin


def group(module: str) -> str:
    """The folder, or the file, right under the package: what has a layer."""
    name = module.split(".")[1] if "." in module else ""
    return re.sub(r"^(app|demo|cli)_\w+$", r"\1", name)  # these are several files


@every_module
def test_imports_point_down(module: str) -> None:
    """A module imports only lower layers and its own folder."""
    own = group(module)
    assert own in LAYERS, f"give {own} a layer"
    for target in imports(module):
        if not target.startswith("sidecar"):
            continue
        other = group(target)
        below = LAYERS[other] < LAYERS[own] or LAYERS[other] == LAYERS[own] == 0
        assert other == own or below, f"{module} imports {target}"


@every_module
def test_only_the_top_reads_settings(module: str) -> None:
    """Everything else receives plain arguments."""
    if group(module) not in READS_SETTINGS | {"settings"}:
        assert not [target for target in imports(module) if group(target) == "settings"]


@pytest.mark.parametrize("module", [module for module in MODULES if PURE.fullmatch(module)])
def test_pure_modules_stay_pure(module: str) -> None:
    """What decides neither waits, nor looks at a clock, nor writes anything."""
    assert IMPURE.isdisjoint(target.split(".")[0] for target in imports(module))


@every_module
def test_modules_are_of_a_size_to_be_read(module: str) -> None:
    """One idea per module."""
    assert len(MODULES[module].read_text("utf-8").splitlines()) <= MODULE_LINES


@every_module
def test_functions_are_of_a_size_to_be_read(module: str) -> None:
    """Sixty lines at most, docstring and all."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    sizes = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(tree(module))
        if isinstance(node, functions)
    }
    assert {name: size for name, size in sizes.items() if size > FUNCTION_LINES} == {}


@every_module
def test_a_module_keeps_no_state(module: str) -> None:
    """Containers at module level are named as constants and never changed; nothing is global."""
    names = set()
    for node in tree(module).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and is_container(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    assert [name for name in names if not re.fullmatch(r"_?[A-Z][A-Z0-9_]*|__all__", name)] == []
    assert list(changes(module, names)) == []


def is_container(value: ast.expr | None) -> bool:
    """Whether an expression makes something that can be changed in place."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func.id in {
            "list",
            "dict",
            "set",
            "deque",
            "defaultdict",
            "Counter",
            "bytearray",
        }
    made = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    return isinstance(value, made)


def changes(module: str, names: set[str]) -> Iterator[str]:
    """Where a module changes one of these names, or rebinds a global."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Global):
            yield f"line {node.lineno}: global"
        if not isinstance(node, ast.Subscript | ast.Attribute):
            continue
        stored = isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load)
        mutated = isinstance(node, ast.Attribute) and node.attr in MUTATORS
        if (stored or mutated) and isinstance(node.value, ast.Name) and node.value.id in names:
            yield f"line {node.lineno}: {node.value.id}"


def expressions(node: Any) -> Iterator[str]:
    """Every Prometheus expression in an alert or recording rule file."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "expr":
                yield str(value)
            yield from expressions(value)
    elif isinstance(node, list):
        for item in node:
            yield from expressions(item)


def shown_metrics() -> set[str]:
    """Every sample name that a scrape of this program can show."""
    metrics = all_metrics(reason.label for reason in Reason)
    route = metrics.route("r")
    route.codes[200] += 1
    metrics.lookups["redis", "hit"] += 1
    metrics.lookup_duration["redis"].observe(0.1)
    metrics.logins["password", "ok"] += 1
    text = render(metrics)[0].decode()
    return set(re.findall(r"(?m)^[a-z_]+", text)) | set(re.findall(r"(?m)^# TYPE (\S+)", text))


def test_alerts_name_metrics_that_exist() -> None:
    """An alert on a misspelt name never fires."""
    files = sorted((ROOT / "config").glob("alerts*.y*ml"))
    assert files
    used = {
        name
        for file in files
        for expression in expressions(yaml.safe_load(file.read_text("utf-8")))
        for name in re.findall(r"\b(?:sidecar|process|python)_[a-z_]+", expression)
    }
    assert used
    assert used - shown_metrics() == set()


def test_documents_name_metrics_that_exist() -> None:
    """What an operator looks for is there to be found."""
    named = set(
        re.findall(r"\bsidecar_[a-z_]+[a-z]", (ROOT / "docs/operating.md").read_text("utf-8"))
    )
    assert named
    assert named - shown_metrics() == set()


@pytest.mark.parametrize("setting", [field.name for field in msgspec.structs.fields(Settings)])
def test_every_setting_is_documented(setting: str) -> None:
    """Each stands in the annotated file, and as a variable or a table in the manual."""
    annotated = (ROOT / "config/sidecar.toml").read_text("utf-8")
    assert re.search(rf"(?m)^#? ?(?:{setting} ?=|\[+{setting}\]+)", annotated)
    manual = (ROOT / "docs/operating.md").read_text("utf-8")
    assert re.search(rf"\b{setting.upper()}\b|\[{setting}\]", manual)
