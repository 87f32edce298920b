"""The sources of settings: flags, environment and file. The first that has a setting wins.

Reads only the configuration file; the environment and the flags are arguments.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.errors import ConfigWarning
from sidecar.settings.reader import RawValue, did_you_mean
from sidecar.toml import parse_toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sidecar.settings.kinds import ValueKind
    from sidecar.settings.reader import Reader

PREFIX: Final = "SIDECAR_"
CONFIG: Final = "CONFIG"
# Settings whose empty variable is a value: no audience, an empty list. Any other empty variable
# counts as not set, so that TLS_CERT_FILE= does not turn TLS off.
EMPTY_IS_A_VALUE: Final = frozenset(("jwt_audience", "redirect_origins", "trusted_proxies"))
# In every pod of a namespace with a Service "redis", Kubernetes sets REDIS_PORT to such a text.
_SERVICE_LINK: Final = "tcp://"
# REDIS_HOTS and REDIS_HOST: 0.9. SSL_CERT_FILE, which is a variable of OpenSSL, and TLS_CERT_FILE:
# 0.85.
_SIMILAR: Final = 0.86
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
    """Return the settings of the environment, secrets without a last line break.

    An empty variable counts only if empty is a value.
    """
    given: dict[str, RawValue] = {}
    for name, kind in kinds.items():
        raw = environ.get(name.upper())
        if raw is None or _is_service_link(name, raw):
            continue
        if kind.secret:
            raw = without_line_break(raw)
        if raw or name in EMPTY_IS_A_VALUE:
            given[name] = RawValue(raw, f"environment {name.upper()}")
    return given


def without_line_break(secret: str) -> str:
    """Return a secret without the line break that editors and pipes add to its end."""
    return secret.removesuffix("\n").removesuffix("\r")


def ignored_variables(
    environ: Mapping[str, str], file: Mapping[str, RawValue], kinds: Mapping[str, ValueKind]
) -> Iterator[ConfigWarning]:
    """Yield a warning for each variable that looks like a setting and is ignored.

    `file` has the settings of the configuration file.
    """
    for name in kinds:
        variable = name.upper()
        raw = environ.get(variable)
        where = f"environment {variable}"
        if raw is not None and _is_service_link(name, raw):
            yield ConfigWarning(
                where,
                "is ignored, because Kubernetes sets it to tcp://… for a Service of that name",
                f"set enableServiceLinks: false in the pod, or {variable} to a port",
            )
        elif raw == "" and name in file and name not in EMPTY_IS_A_VALUE:
            yield ConfigWarning(
                where,
                f"is empty and therefore ignored; {file[name].where} applies",
                "remove the variable, or the key from the file",
            )
    names = {name.upper() for name in kinds}
    for variable in sorted(environ.keys() - names):
        if near := _similar_name(variable, names):
            yield ConfigWarning(
                f"environment {variable}",
                "is ignored, because there is no such setting",
                f"rename it to {near} if you meant that, or remove it",
            )


def _is_service_link(name: str, raw: str) -> bool:
    return name == "redis_port" and raw.startswith(_SERVICE_LINK)


def _similar_name(variable: str, names: Iterable[str]) -> str:
    """Return the setting's variable that this one was probably meant to be, or an empty text."""
    if variable.startswith(PREFIX):  # `check_variables` reports these
        return ""
    matcher = SequenceMatcher(b=variable.upper(), autojunk=False)
    best, found = _SIMILAR, ""
    for name in sorted(names):
        matcher.set_seq1(name)
        if matcher.quick_ratio() >= best and matcher.ratio() >= best:
            best, found = matcher.ratio(), name
    return found


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
