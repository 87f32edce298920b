"""Turns an exception about a value or a file into a ConfigError that names the place."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

from sidecar.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def config_errors_at(where: str) -> Iterator[None]:
    """Raise ConfigError at `where` for an SSLError, OSError or ValueError in the `with` block.

    The text of a ValueError becomes the message as it is.
    """
    try:
        yield
    except ssl.SSLError as fault:
        raise ConfigError([Problem(where, "expected certificates in PEM")]) from fault
    except OSError as fault:
        raise ConfigError([Problem(where, f"cannot be read: {fault.strerror}")]) from fault
    except ValueError as fault:
        raise ConfigError([Problem(where, str(fault))]) from fault
