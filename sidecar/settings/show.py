"""Prints settings as TOML, each with its origin, and with secrets masked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.secret import MASK
from sidecar.settings.model import Settings, fields_of, kinds_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT: Final = "default"

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def print_config(settings: Settings, origins: Mapping[str, str] | None = None) -> str:
    """Return the settings as a configuration file, equivalent once the secrets are set."""
    lines = list(_options(settings, origins or {}))
    if settings.identity:
        lines += ["", "[identity]"]
        lines += [f"{_key(header)} = {_toml(claim)}" for header, claim in settings.identity.items()]
    if settings.cors is not None:
        lines += ["", "[cors]", *_row(settings.cors)]
    for name in ("route", "issuer"):
        for row in getattr(settings, name):
            lines += ["", f"[[{name}]]", *_row(row)]
    return "\n".join(lines) + "\n"


def _options(settings: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    for name, kind in kinds_of(Settings).items():
        value = getattr(settings, name)
        if kind.secret:
            # Commented out: if the mask were read back, it would become a secret everyone knows.
            line = f'# {name} = "{MASK if value.reveal() else ""}"'
        else:
            line = f"{name} = {_toml(kind.show(value))}"
        yield f"{line}  # {origins.get(name, DEFAULT)}" if origins else line


def _row(row: msgspec.Struct) -> Iterator[str]:
    kinds = kinds_of(type(row))
    for field in fields_of(type(row)):
        value = getattr(row, field.name)
        if field.required or value != field.default:
            yield f"{field.name} = {_toml(kinds[field.name].show(value))}"


def _toml(value: Any) -> str:
    """Return a value in TOML syntax."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, dict):
        pairs = (f"{_key(name)} = {_toml(member)}" for name, member in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # A JSON string is a TOML basic string, except for DEL, which no kind accepts.
    return msgspec.json.encode(str(value)).decode()


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _toml(name)
