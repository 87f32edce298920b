"""The command `sidecar`: runs the subcommand that its arguments name.

Exit code 0 means success; 1 that the command failed, or its answer is no; 2 that the arguments or
the configuration are invalid. The module of a subcommand is imported only when it is used, so
`sidecar version` loads no server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from sidecar.cli.parser import build_parser
from sidecar.cli.terminal import CommandFailed, UsageError, complain
from sidecar.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

SUCCEEDED: Final = 0
FAILED: Final = 1
INVALID: Final = 2

# Each module has a function with the name of the command, which takes the arguments and returns
# whether the answer is yes.
MODULES: Final = {
    "run": "serving",
    "demo": "serving",
    "check": "check",
    "hash_password": "passwords",
    "mint": "tokens",
    "inspect": "tokens",
    "sessions_list": "sessions",
    "sessions_show": "sessions",
    "sessions_revoke": "sessions",
    "sessions_count": "sessions",
    "version": "version",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Raises SystemExit for --help and bad arguments."""
    arguments = build_parser().parse_args(argv)
    try:
        module = import_module(f"sidecar.cli.{MODULES[arguments.command]}")
        answer: bool = getattr(module, arguments.command)(arguments)
    except ConfigError as fault:
        complain(*map(str, fault.problems))
        return INVALID
    except UsageError as fault:
        complain(f"sidecar: {fault}")
        return INVALID
    except CommandFailed as fault:
        complain(f"sidecar: {fault}")
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    return SUCCEEDED if answer else FAILED
