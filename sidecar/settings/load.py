"""Makes `Settings` from flags, environment and file, or reports every problem in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.errors import ConfigError, ConfigWarning
from sidecar.settings import sources
from sidecar.settings.checks import check
from sidecar.settings.model import (
    HEAD_SIZE,
    MAX_HEAD,
    NO_SECRET,
    TABLES,
    TOKEN_ROOM,
    TOKEN_SIZE,
    Settings,
    kinds_of,
)
from sidecar.settings.reader import Reader
from sidecar.settings.routes import DEFAULT_PREFIX
from sidecar.settings.secret_files import read_secret_files
from sidecar.settings.tables import read_cors, read_identity, read_issuers, read_routes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.settings.reader import RawValue

_HEAD_ROOM: Final = HEAD_SIZE - TOKEN_SIZE  # bytes of a head beside a long token


class Loaded(msgspec.Struct, frozen=True):
    """The settings, and the origin of each that is set, such as `environment REDIS_PORT`.

    `warnings` are about the sources; `find_warnings` finds those about the settings.
    """

    settings: Settings
    origins: dict[str, str]
    warnings: tuple[ConfigWarning, ...] = ()


def settings_from(
    *,
    env: Mapping[str, str],
    file: str | Path | None = None,
    flags: Mapping[str, str] | None = None,
) -> Settings:
    """Load the settings without their origins; see `load`. Raises ConfigError."""
    return load(env=env, file=file, flags=flags).settings


def load(
    *,
    env: Mapping[str, str],
    file: str | Path | None = None,
    flags: Mapping[str, str] | None = None,
) -> Loaded:
    """Load the settings and their origins. Raises ConfigError with every problem.

    `file` is the configuration file; None means the file that SIDECAR_CONFIG names, if any. `flags`
    are the values of the command line, by field name.
    """
    reader = Reader()
    kinds = kinds_of(Settings)
    path = str(file or env.get(sources.PREFIX + sources.CONFIG) or "")
    keys = sources.read_file(reader, path) if path else {}
    readable = keys is not None
    keys = keys or {}
    reader.unknown(keys, [*kinds, *TABLES], f"{path}: ")
    given = sources.from_file(path, keys, kinds)
    warnings = tuple(sources.ignored_variables(env, given, kinds))
    given = sources.overlay(given, sources.from_environment(env, kinds))
    given = sources.overlay(given, sources.from_flags(flags or {}))
    sources.check_variables(reader, env, kinds)
    values: dict[str, Any] = reader.table(kinds, given)
    given = read_secret_files(reader, kinds, given, values)
    own = values.get("auth_prefix", None if "auth_prefix" in given else DEFAULT_PREFIX)
    values |= _tables(reader, keys, path, own)
    followed = _follow_sizes(given, values)
    unread = {name for name in given if name not in values}
    settings = Settings(**{"jwt_secret": NO_SECRET, "refresh_secret": NO_SECRET} | values)
    if readable:  # otherwise, a setting that seems to be missing may be in the file
        for name, problem in check(settings, unread):
            reader.report(_place(name, given, path), problem)
    if reader.problems:
        raise ConfigError(reader.problems)
    origins = {name: value.where for name, value in given.items()}
    return Loaded(settings, origins | followed, warnings)


def _follow_sizes(given: Mapping[str, RawValue], values: dict[str, Any]) -> dict[str, str]:
    """Fit the limits of heads and tokens to each other if only one of them is set.

    Adds the other one to `values`, and returns its origin.
    """
    head, token = "max_head_size", "max_token_size"
    if head not in given and values.get(token, 0) > HEAD_SIZE - _HEAD_ROOM:
        values[head] = min(values[token] + _HEAD_ROOM, MAX_HEAD)
        return {head: f"follows {token}"}
    if token not in given and values.get(head, MAX_HEAD) < TOKEN_SIZE + TOKEN_ROOM:
        values[token] = values[head] - TOKEN_ROOM
        return {token: f"follows {head}"}
    return {}


def _place(name: str, given: Mapping[str, RawValue], path: str) -> str:
    if name in given:
        return given[name].where
    return f"{path}: {name}" if name in TABLES else name


def _tables(
    reader: Reader, keys: Mapping[str, object], path: str, prefix: str | None
) -> dict[str, object]:
    folder = Path(path).parent
    tables: dict[str, object] = {}
    if "identity" in keys:
        tables["identity"] = read_identity(reader, keys["identity"], path)
    if "route" in keys:
        tables["route"] = read_routes(reader, keys["route"], (path, folder), prefix)
    if "issuer" in keys:
        tables["issuer"] = read_issuers(reader, keys["issuer"], path, folder)
    if "cors" in keys:
        tables["cors"] = read_cors(reader, keys["cors"], path, folder)
    return tables
