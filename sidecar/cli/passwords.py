"""`sidecar hash-password`: hashes a password for the users file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.api.passwords import hash_password as make_hash
from sidecar.cli.terminal import ask_password, say

if TYPE_CHECKING:
    from argparse import Namespace


def hash_password(_: Namespace) -> bool:
    """Ask for a password and print its hash."""
    say(make_hash(ask_password()))
    return True
