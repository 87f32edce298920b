"""`sidecar version`: prints the version, and whether the hot path is compiled."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from typing import TYPE_CHECKING

from sidecar import __version__
from sidecar.cli.terminal import say

if TYPE_CHECKING:
    from argparse import Namespace


def version(_: Namespace) -> bool:
    """Print the version."""
    say(describe_version())
    return True


def describe_version() -> str:
    """The version, and whether the hot path is compiled or interpreted."""
    spec = find_spec("sidecar.wire.requests")
    compiled = spec is not None and (spec.origin or "").endswith(tuple(EXTENSION_SUFFIXES))
    return f"sidecar {__version__} ({'compiled' if compiled else 'interpreted'})"
