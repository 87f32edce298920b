"""The sources of settings: flags, environment and file. The first that has a setting wins.

Reads only the configuration file; the environment and the flags are arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.settings.reader import RawValue, did_you_mean
from sidecar.toml import parse_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.settings.kinds import ValueKind
    from sidecar.settings.reader import Reader

PREFIX: Final = "SIDECAR_"
CONFIG: Final = "CONFIG"
FLAGS: Final = {
    "listen": "--listen",
    "admin_listen": "--admin-listen",
    "upstream_url": "--upstream",
    "log_level": "--log-level",
}


def read_file(reader: Reader, path: str) -> dict[str, object] | None:
    """Read the file's keys and tables; report a problem and return None if that fails."""
    try:
        return parse_toml(Path(path).read_text("utf-8"))
    except OSError as fault:
        reader.report(path, f"cannot be read: {fault.strerror}")
    except UnicodeDecodeError:
        reader.report(path, "expected UTF-8 text")
    except ValueError as fault:
        reader.report(path, f"expected TOML: {fault}")
    return None


def from_file(
    path: str, keys: Mapping[str, object], kinds: Mapping[str, ValueKind]
) -> dict[str, RawValue]:
    """Return the settings of the file. An empty secret, or secret file, counts as not set."""
    folder = Path(path).parent
    return {
        name: RawValue(raw, f"{path}: {name}", folder)
        for name, raw in keys.items()
        if name in kinds and not (raw == "" and is_paired(name, kinds))
    }


def from_environment(
    environ: Mapping[str, str], kinds: Mapping[str, ValueKind]
) -> dict[str, RawValue]:
    """Return the settings of the environment. An empty variable counts only if empty is a value."""
    given: dict[str, RawValue] = {}
    for name, kind in kinds.items():
        raw = environ.get(name.upper())
        if raw is None or (raw == "" and (not kind.empty or is_paired(name, kinds))):
            continue
        # Kubernetes sets this variable in every pod if there is a Service named "redis".
        if name == "redis_port" and raw.startswith("tcp://"):
            continue
        given[name] = RawValue(raw, f"environment {name.upper()}")
    return given


def from_flags(flags: Mapping[str, str]) -> dict[str, RawValue]:
    """Return the settings of the command line; `flags` has their values by field name."""
    return {name: RawValue(raw, f"flag {FLAGS[name]}") for name, raw in flags.items()}


def overlay(lower: dict[str, RawValue], higher: dict[str, RawValue]) -> dict[str, RawValue]:
    """Merge two sources; `higher` wins. Its secret also hides the secret file of `lower`."""
    merged = lower | higher
    for name in higher:
        other = name.removesuffix("_file") if name.endswith("_file") else f"{name}_file"
        if other in lower and other not in higher:
            del merged[other]
    return merged


def is_paired(name: str, kinds: Mapping[str, ValueKind]) -> bool:
    """Whether this setting is a secret that can be read from a file, or names that file."""
    secret = name.removesuffix("_file")
    return f"{secret}_file" in kinds and secret in kinds


def check_variables(
    reader: Reader, environ: Mapping[str, str], kinds: Mapping[str, ValueKind]
) -> None:
    """Report variables with our prefix that resemble a setting: they would be ignored silently."""
    names = [name.upper() for name in kinds]
    for variable in sorted(environ):
        rest = variable.removeprefix(PREFIX)
        if rest in (variable, CONFIG):
            continue
        if rest in names:
            reader.report(f"environment {variable}", f"unknown variable; did you mean {rest}?")
        elif near := did_you_mean(rest, [CONFIG, *names]):
            near = near.replace(f" {CONFIG}?", f" {PREFIX}{CONFIG}?")
            reader.report(f"environment {variable}", f"unknown variable{near}")
