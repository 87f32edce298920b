"""The command `sidecar`: runs the subcommand that its arguments name.

Exit code 0 means success; 1 that the command failed, or its answer is no; 2 that the arguments or
the configuration are invalid. The module of a subcommand is imported only when it is used, so
`sidecar version` loads no server.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Final

from sidecar.cli.parser import COMMANDS, build_parser
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
    "demo": "demo",
    "check": "check",
    "hash_password": "passwords",
    "mint": "tokens",
    "explain": "tokens",
    "sessions_list": "sessions",
    "sessions_show": "sessions",
    "sessions_revoke": "sessions",
    "sessions_count": "sessions",
    "completion": "completion",
    "version": "version",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Raises SystemExit for --help and bad arguments."""
    mistyped = find_mistyped(sys.argv[1:] if argv is None else argv)
    if mistyped:
        complain(f"sidecar: {mistyped}")
        return INVALID
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


def find_mistyped(argv: Sequence[str]) -> str:
    """A message about a word in the place of a command that is no command; empty if there is none.

    Names the command that was probably meant. Anything else that is wrong is left to the parser.
    """
    above = ""
    for word in argv[:2]:
        known = COMMANDS[above]
        if word.startswith("-") or not word:
            return ""
        if word not in known:
            near = get_close_matches(word, known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"expected one of {', '.join(known)}"
            return f'unknown command "{f"{above} {word}".strip()}"; {hint}'
        if word not in COMMANDS:
            return ""
        above = word
    return ""
