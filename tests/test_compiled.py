"""The compiled hot path: which modules it is, and what its source must not have.

`make unit-compiled` runs this file, and the tests of the hot path, with the compiled modules.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, Final

import pytest

from sidecar.cli.version import describe_version
from sidecar.proxy.accounting import Accountable
from sidecar.proxy.contracts import ForwardedExchange, LegClient, RequestInProgress
from sidecar.proxy.downstream import Downstream
from sidecar.proxy.exchange import Exchange
from sidecar.proxy.upstream import ResponseReceiver
from sidecar.proxy.upstream_leg import UpstreamLeg

ROOT: Final = Path(__file__).parents[1]
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
COMPILED: Final[list[str]] = PROJECT["tool"]["sidecar"]["compiled"]
# Whether this run has the compiled modules: their folder comes first then.
RUNS_COMPILED: Final = any(Path(folder).parts[-2:] == ("build", "compiled") for folder in sys.path)


def source(module: str) -> ast.Module:
    """The source of a module."""
    return ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8"))


def test_this_run_is_what_it_says() -> None:
    """`sidecar version` says which build runs, and every listed module is of that build."""
    assert describe_version().endswith("(compiled)" if RUNS_COMPILED else "(interpreted)")
    origins = [str(import_module(name).__file__) for name in COMPILED]
    assert [each.endswith(tuple(EXTENSION_SUFFIXES)) for each in origins] == [
        RUNS_COMPILED for _ in origins
    ]


def test_conditions_that_a_compiler_would_leave_out_are_reported() -> None:
    """Mypy reports conditions that it takes for always true in exactly the compiled modules."""
    (strict,) = (
        each for each in PROJECT["tool"]["mypy"]["overrides"] if "warn_unreachable" in each
    )
    assert strict["module"] == COMPILED
    assert strict["warn_unreachable"] is True
    assert strict["enable_error_code"] == ["redundant-expr"]


def test_all_of_wire_is_compiled() -> None:
    """No module of `wire` is forgotten."""
    wire = {f"sidecar.wire.{path.stem}" for path in (ROOT / "sidecar" / "wire").glob("[a-z]*.py")}
    assert wire <= set(COMPILED)


@pytest.mark.parametrize("module", COMPILED)
def test_no_default_is_left_out(module: str) -> None:
    """No class attribute is None by default if it may be of several other types.

    The compiler leaves such a default out, and the attribute is then undefined.
    """
    left_out = [
        ast.unparse(each)
        for kind in ast.walk(source(module))
        if isinstance(kind, ast.ClassDef)
        for each in kind.body
        if isinstance(each, ast.AnnAssign)
        and isinstance(each.value, ast.Constant)
        and each.value.value is None
        and len(ast.unparse(each.annotation).split(" | ")) > 2
    ]
    assert left_out == []


@pytest.mark.parametrize("module", COMPILED)
def test_no_class_needs_what_is_lost(module: str) -> None:
    """No compiled class has options (`msgspec.Struct`): the compiler drops them without a word.

    Nor does a class of a compiled module keep instance attributes in a `__dict__` of its own.
    """
    tree = source(module)
    options = [
        each.name for each in ast.walk(tree) if isinstance(each, ast.ClassDef) and each.keywords
    ]
    assert options == []
    names = [each.attr for each in ast.walk(tree) if isinstance(each, ast.Attribute)]
    assert "__dict__" not in names


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [
        pytest.param(Exchange, RequestInProgress, id="of-the-connection"),
        pytest.param(Exchange, ForwardedExchange, id="of-the-leg"),
        pytest.param(Exchange, Accountable, id="of-the-accounts"),
        pytest.param(Downstream, LegClient, id="of-the-exchange"),
        pytest.param(UpstreamLeg, ResponseReceiver, id="of-the-upstream"),
    ],
)
def test_hot_classes_inherit_from_their_protocols(kind: type, protocol: type) -> None:
    """Compiled code calls a method of a protocol directly if the class inherits from it.

    A protocol with a `__hash__` would give the class one that returns nothing.
    """
    assert protocol in kind.__mro__
    assert "__hash__" not in vars(protocol)


@pytest.mark.parametrize("head", ["RequestHead", "ResponseHead"])
def test_a_copy_of_a_head_has_everything(head: str) -> None:
    """`copy` copies each attribute that the class declares, by its own name."""
    (found,) = (
        each
        for each in source("sidecar.wire.head").body
        if isinstance(each, ast.ClassDef) and each.name == head
    )
    declared = {
        each.target.id
        for each in found.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    made = getattr(import_module("sidecar.wire.head"), head)()
    for name in declared:
        value = getattr(made, name)
        setattr(made, name, not value if isinstance(value, bool) else value)
    copied = made.copy()
    assert {name: getattr(copied, name) for name in declared} == {
        name: getattr(made, name) for name in declared
    }
    (copy,) = (
        each for each in found.body if isinstance(each, ast.FunctionDef) and each.name == "copy"
    )
    pairs = {
        (each.targets[0].attr, each.value.attr)
        for each in copy.body
        if isinstance(each, ast.Assign)
        and isinstance(each.targets[0], ast.Attribute)
        and isinstance(each.value, ast.Attribute)
    }
    assert pairs == {(name, name) for name in declared}
