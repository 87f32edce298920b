"""Where settings come from: flags, environment, file; the first of these that names a setting wins.

Reads the configuration file and nothing else; the environment and the flags are arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.settings.reader import Given, did_you_mean
from sidecar.toml import parse_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.settings.kinds import Kind
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
    """The file's keys and tables; None, and a problem, when it is no readable TOML."""
    try:
        return parse_toml(Path(path).read_text("utf-8"))
    except OSError as fault:
        reader.report(path, f"cannot be read: {fault.strerror}")
    except UnicodeDecodeError:
        reader.report(path, "expected UTF-8 text")
    except ValueError as fault:
        reader.report(path, f"expected TOML: {fault}")
    return None


def from_file(path: str, keys: Mapping[str, object], kinds: Mapping[str, Kind]) -> dict[str, Given]:
    """The file's settings. A secret that is empty there is not set."""
    folder = Path(path).parent
    return {
        name: Given(raw, f"{path}: {name}", folder)
        for name, raw in keys.items()
        if name in kinds and not (raw == "" and is_paired(name, kinds))
    }


def from_environment(environ: Mapping[str, str], kinds: Mapping[str, Kind]) -> dict[str, Given]:
    """The environment's settings. An empty variable counts only where empty is a value."""
    given: dict[str, Given] = {}
    for name, kind in kinds.items():
        raw = environ.get(name.upper())
        if raw is None or (raw == "" and (not kind.empty or is_paired(name, kinds))):
            continue
        # Kubernetes sets this in every pod beside a Service that is called "redis".
        if name == "redis_port" and raw.startswith("tcp://"):
            continue
        given[name] = Given(raw, f"environment {name.upper()}")
    return given


def from_flags(flags: Mapping[str, str]) -> dict[str, Given]:
    """The command line's settings, by field name."""
    return {name: Given(raw, f"flag {FLAGS[name]}") for name, raw in flags.items()}


def overlay(lower: dict[str, Given], higher: dict[str, Given]) -> dict[str, Given]:
    """Both, the higher one winning; a secret given there also hides the lower one's file of it."""
    merged = lower | higher
    for name in higher:
        other = name.removesuffix("_file") if name.endswith("_file") else f"{name}_file"
        if other in lower and other not in higher:
            del merged[other]
    return merged


def is_paired(name: str, kinds: Mapping[str, Kind]) -> bool:
    """Whether this is a secret, or the file of a secret."""
    secret = name.removesuffix("_file")
    return f"{secret}_file" in kinds and secret in kinds


def check_variables(reader: Reader, environ: Mapping[str, str], kinds: Mapping[str, Kind]) -> None:
    """Report variables with our prefix that come near a setting: it would be ignored in silence."""
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
