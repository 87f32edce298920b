"""`sidecar hash-password`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.api.passwords import hash_password as make_hash
from sidecar.cli.terminal import ask_password, say

if TYPE_CHECKING:
    from argparse import Namespace


def hash_password(_: Namespace) -> bool:
    """Print the hash of a password that is asked for."""
    say(make_hash(ask_password()))
    return True
