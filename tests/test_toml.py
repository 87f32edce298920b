"""TOML texts: parsed, or refused with a readable reason."""

from __future__ import annotations

import pytest

from sidecar.toml import parse_toml


def test_a_document() -> None:
    """A document is parsed as by the library, including the largest 64-bit integers."""
    text = f"a = [{(1 << 63) - 1}, -1]\nb.c = {-(1 << 63)}\nd = true"
    assert parse_toml(text) == {"a": [(1 << 63) - 1, -1], "b": {"c": -(1 << 63)}, "d": True}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("a = ", "Invalid value", id="no-toml"),
        pytest.param(f"a = [{{b = {1 << 63}}}]", "larger than 64 bits", id="large"),
        pytest.param("a = " + "1" * 5000, "larger than 64 bits", id="too-many-digits"),
        pytest.param("a = 0x" + "f" * 5000, "larger than 64 bits", id="too-many-hex-digits"),
        pytest.param("a = " + "[" * 5000, "nested too deep", id="nested"),
        pytest.param("a = " + "[" * 16 + "]" * 16, "nested too deep", id="lists"),
        pytest.param(".".join("a" * 2000) + " = 1", "nested too deep", id="dotted-keys"),
        pytest.param("[" + ".".join("a" * 16) + "]", "nested too deep", id="a-header"),
    ],
)
def test_no_document(text: str, reason: str) -> None:
    """A document beyond the limits of TOML 1.0 is refused."""
    with pytest.raises(ValueError, match=reason):
        parse_toml(text)


def test_the_deepest_document() -> None:
    """Fifteen lists in the document's table are accepted."""
    assert parse_toml("a = " + "[" * 15 + "]" * 15)
