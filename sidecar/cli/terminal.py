"""Terminal input and output of the commands, and the exceptions that commands raise.

What is read here is secret: it is never a command-line argument, and is never printed.
"""

from __future__ import annotations

import sys
from getpass import getpass
from typing import Final

LONGEST: Final = 65536  # bytes of a password or a token


class CommandFailed(Exception):
    """The command failed. The message says why."""


class UsageError(Exception):
    """The arguments are invalid. The message says how."""


def say(text: str, end: str = "\n") -> None:
    """Write a text to standard output."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def complain(*lines: str) -> None:
    """Write lines to standard error."""
    sys.stderr.write("".join(f"{line}\n" for line in lines))


def read_line(what: str) -> str:
    """Read one line from standard input, without its line break; `what` names it in messages.

    Raises CommandFailed if standard input is not one non-empty line of UTF-8.
    """
    raw = sys.stdin.buffer.read(LONGEST + 1)
    if len(raw) > LONGEST:
        raise CommandFailed(f"expected a {what} of at most {LONGEST} bytes")
    try:
        text = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise CommandFailed(f"expected a {what} in UTF-8") from None
    if not text or "\n" in text:
        raise CommandFailed(f"expected one line with a {what} on standard input")
    return text


def ask_password() -> str:
    """Ask for a password twice without echo on a terminal, or read it from standard input.

    Raises CommandFailed if it is empty, or if the two passwords differ.
    """
    if not sys.stdin.isatty():
        return read_line("password")
    password = getpass("Password: ")
    if not password:
        raise CommandFailed("expected a password; it is empty")
    if password != getpass("Password again: "):
        raise CommandFailed("expected the same password twice")
    return password
