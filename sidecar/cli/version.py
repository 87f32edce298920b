"""`sidecar version`: prints the version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar import __version__
from sidecar.cli.terminal import say

if TYPE_CHECKING:
    from argparse import Namespace


def version(_: Namespace) -> bool:
    """Print the version."""
    say(f"sidecar {__version__}")
    return True
