"""The package's structure (imports, purity, sizes, state), and what its documents must name."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
import yaml

from sidecar.auth.reason import Reason
from sidecar.settings import Settings
from sidecar.telemetry.exposition import render
from tests import architecture
from tests.architecture import read_package
from tests.peers.all_metrics import all_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.architecture import Package

ROOT: Final = Path(__file__).parent.parent
MUTATORS: Final = {
    *("add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove"),
    *("setdefault", "update", "appendleft", "popleft"),
}


PACKAGE: Final = read_package(ROOT / "sidecar")
every_module = pytest.mark.parametrize("module", PACKAGE.sources)


@pytest.mark.parametrize(
    "rule",
    [
        architecture.upward_imports,
        architecture.rules_for_nothing,
        architecture.circles,
        architecture.session_imports,
        architecture.settings_readers,
        architecture.long_modules,
        architecture.long_functions,
    ],
)
def test_the_package_keeps_the_rule(rule: Callable[[Package], list[str]]) -> None:
    """Layers, circles, sizes: the package breaks no rule of its structure."""
    assert rule(PACKAGE) == []


@pytest.mark.parametrize("module", architecture.pure_modules(PACKAGE))
def test_pure_modules_stay_pure(module: str) -> None:
    """Pure code reaches no event loop, socket, clock, randomness, environment or log."""
    assert architecture.impurities(PACKAGE, module) == []


@pytest.mark.parametrize(
    ("rule", "module", "line", "violation"),
    [
        pytest.param(
            architecture.upward_imports,
            "sidecar.wire.head",
            "from sidecar.auth.gate import Gate",
            "sidecar.wire.head imports sidecar.auth.gate",
            id="upward",
        ),
        pytest.param(
            architecture.upward_imports,
            "sidecar.api.app",
            "def late():\n    import sidecar.proxy.listener",
            "sidecar.api.app imports sidecar.proxy.listener",
            id="beside-inside-a-function",
        ),
        pytest.param(
            architecture.circles,
            "sidecar.auth.reason",
            "if TYPE_CHECKING:\n    from sidecar.auth.gate import Gate",
            "sidecar.auth.reason",
            id="circle-of-two-by-a-type-only-import",
        ),
        pytest.param(
            architecture.circles,
            "sidecar.proxy.flow",
            "if TYPE_CHECKING:\n    from sidecar.proxy.exchange import Exchange",
            "sidecar.proxy.exchange",
            id="circle-through-others",
        ),
        pytest.param(
            architecture.session_imports,
            "sidecar.sessions.memory.near",
            "if TYPE_CHECKING:\n    from sidecar.sessions.redis.store import RedisStore",
            "sidecar.sessions.memory.near imports sidecar.sessions.redis.store",
            id="memory-imports-redis",
        ),
        pytest.param(
            architecture.session_imports,
            "sidecar.sessions.store",
            "from sidecar.sessions.revocation.journal import Journal",
            "sidecar.sessions.store imports sidecar.sessions.revocation.journal",
            id="protocol-imports-a-backend",
        ),
        pytest.param(
            architecture.settings_readers,
            "sidecar.proxy.context",
            "from sidecar.settings import Settings",
            "sidecar.proxy.context",
            id="settings-below-the-top",
        ),
        pytest.param(
            architecture.long_modules,
            "sidecar.secret",
            "\n" * 320,
            "sidecar.secret",
            id="long-module",
        ),
        pytest.param(
            architecture.long_functions,
            "sidecar.secret",
            "def lengthy():" + "\n    pass" * 60,
            "sidecar.secret.lengthy",
            id="long-function",
        ),
    ],
)
def test_a_rule_notices_a_violation(
    rule: Callable[[Package], list[str]], module: str, line: str, violation: str
) -> None:
    """Each rule fails when a module is changed to break it."""
    broken = PACKAGE.with_lines(module, line)
    assert violation in rule(broken)
    assert violation not in rule(PACKAGE)


@pytest.mark.parametrize(
    ("module", "changed", "line"),
    [
        pytest.param(
            *("sidecar.auth.gate", "sidecar.auth.gate", "from time import time"), id="itself"
        ),
        pytest.param(
            *("sidecar.auth.gate", "sidecar.auth.strict_json", "def now():\n    import time"),
            id="through-an-import",
        ),
        pytest.param(
            *("sidecar.sessions.memory.near", "sidecar.auth.session", "import asyncio"),
            id="outside-the-pure-rooms",
        ),
    ],
)
def test_purity_is_transitive(module: str, changed: str, line: str) -> None:
    """A pure module that reaches a clock or an event loop is reported, however it gets there."""
    assert module in architecture.pure_modules(PACKAGE)
    assert architecture.impurities(PACKAGE.with_lines(changed, line), module) != []


def test_types_may_name_what_is_impure() -> None:
    """An import that only type checkers execute makes no module impure."""
    typed = PACKAGE.with_lines("sidecar.auth.gate", "if TYPE_CHECKING:\n    import asyncio")
    assert architecture.impurities(typed, "sidecar.auth.gate") == []


@every_module
def test_a_module_keeps_no_state(module: str) -> None:
    """Containers at module level are named as constants and never changed; nothing is global."""
    names = set()
    for node in PACKAGE.trees[module].body:
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
    for node in ast.walk(PACKAGE.trees[module]):
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
