"""`sidecar completion`: prints the completion script for a shell.

The scripts are files of the package, made from the parser by `scripts/completions`.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from sidecar.cli.terminal import say

if TYPE_CHECKING:
    from argparse import Namespace


def completion(arguments: Namespace) -> bool:
    """Print the script for a shell."""
    script = files("sidecar.cli") / f"completion.{arguments.shell}"
    say(script.read_text(encoding="utf-8"), end="")
    return True
