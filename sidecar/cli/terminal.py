"""Reads from standard input, writes to standard output and error; and what a command raises.

Nothing read here is ever an argument, and none of it is written back.
"""

from __future__ import annotations

import sys
from getpass import getpass
from typing import Final

LONGEST: Final = 65536  # bytes of a password or a token


class CommandFailed(Exception):
    """The command cannot be carried out; the text says why."""


class UsageError(Exception):
    """The command is wrong; the text says how."""


def say(text: str, end: str = "\n") -> None:
    """Write to standard output."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def complain(*lines: str) -> None:
    """Write to standard error."""
    sys.stderr.write("".join(f"{line}\n" for line in lines))


def read_line(what: str) -> str:
    """Standard input, which must be one line, without its line break."""
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
    """From a terminal twice, without echo; else from standard input."""
    if not sys.stdin.isatty():
        return read_line("password")
    password = getpass("Password: ")
    if not password:
        raise CommandFailed("expected a password; it is empty")
    if password != getpass("Once more: "):
        raise CommandFailed("expected the same password twice")
    return password
