"""The command `sidecar`: carries out what its arguments say, and exits with 0, 1 or 2.

0: done. 1: it was not possible, or the answer is no. 2: the command or the configuration is wrong.
A command's module is imported when it is asked for, so that `sidecar version` loads no server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from sidecar.cli.parser import build_parser
from sidecar.cli.terminal import CommandFailed, UsageError, complain
from sidecar.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE: Final = 0
FAILED: Final = 1
WRONG: Final = 2

# Each has a function of the command's own name: (arguments) -> whether the answer is yes.
MODULES: Final = {
    "run": "serving",
    "demo": "serving",
    "check": "checking",
    "hash_password": "passwords",
    "mint": "tokens",
    "inspect": "tokens",
    "sessions_list": "sessions",
    "sessions_show": "sessions",
    "sessions_revoke": "sessions",
    "sessions_count": "sessions",
    "version": "versions",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command; its exit code. SystemExit only for arguments that cannot be read."""
    arguments = build_parser().parse_args(argv)
    try:
        module = import_module(f"sidecar.cli.{MODULES[arguments.command]}")
        answer: bool = getattr(module, arguments.command)(arguments)
    except ConfigError as fault:
        complain(*map(str, fault.problems))
        return WRONG
    except UsageError as fault:
        complain(f"sidecar: {fault}")
        return WRONG
    except CommandFailed as fault:
        complain(f"sidecar: {fault}")
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    return DONE if answer else FAILED
