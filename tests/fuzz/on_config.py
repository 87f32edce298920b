"""Configuration: any text yields settings or problems with a place, and no secret in either.

Input: lines `NAME=value` for the environment, a line `---`, and the file. `@SECRET@` stands for a
canary text that must not be shown if it is the value of a secret.
"""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path
from typing import Any, Final

from sidecar.app.build.components import make_routes
from sidecar.errors import ConfigError
from sidecar.settings import load
from sidecar.settings.model import Settings, kinds_of
from sidecar.settings.show import print_config
from tests.fuzz.targets import MEMORY

CANARY: Final = "k9Qv-canary-3fT8zLw0-xB7nR2sYd"
HIDDEN: Final = frozenset(name for name, kind in kinds_of(Settings).items() if kind.secret)
BASE: Final = {
    "JWT_SECRET": "the-access-secret-of-the-tests-0123456789",
    "REFRESH_SECRET": "the-refresh-secret-of-the-tests-987654321",
}


def check(data: bytes) -> None:
    """Load the input, with defaults for the two required secrets."""
    text = data.decode("utf-8", "surrogateescape").replace("@SECRET@", CANARY)
    variables, _, file = text.partition("---\n")
    env = dict(line.split("=", 1) for line in variables.split("\n") if "=" in line)
    env = {name: value for name, value in env.items() if "\0" not in name + value}
    env.pop("SIDECAR_CONFIG", None)
    told = shows_itself(env, file)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "sidecar.toml"
        path.write_bytes(file.encode("utf-8", "surrogateescape"))
        load_and_look({**BASE, **env}, path, told=told)


def load_and_look(env: dict[str, str], path: Path, *, told: bool) -> None:
    """Load the configuration and check the result; `told` means that the canary may be shown."""
    try:
        loaded = load(env=env, file=path)
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.where
            assert problem.message
            assert len(str(problem)) < 4000, "the problem is too long to read"
        assert told or CANARY not in str(error), str(error)
        return
    settings = loaded.settings
    assert told or CANARY not in repr(settings)
    written = print_config(settings, loaded.origins)
    assert told or CANARY not in written
    again = path.with_name("again.toml")
    again.write_text(print_config(settings))
    second = load(env=BASE | {"ALLOW_WEAK_SECRETS": "true"}, file=again).settings
    for name in Settings.__struct_fields__:
        if name not in HIDDEN | {"allow_weak_secrets"}:
            assert getattr(second, name) == getattr(settings, name), name
    make_routes(settings)  # the route table accepts every valid setting


def shows_itself(env: dict[str, str], file: str) -> bool:
    """Whether the canary occurs anywhere except in the value of a secret."""
    for name, value in env.items():
        if CANARY in name or (CANARY in value and name.lower() not in HIDDEN):
            return True
    try:
        keys = tomllib.loads(file)
    except (ValueError, RecursionError):
        return False
    return any(
        CANARY in name or (name not in HIDDEN and holds(value)) for name, value in keys.items()
    )


def holds(value: Any) -> bool:
    """Whether the canary occurs in this value."""
    if isinstance(value, dict):
        return any(CANARY in name or holds(each) for name, each in value.items())
    if isinstance(value, list):
        return any(map(holds, value))
    return isinstance(value, str) and CANARY in value
