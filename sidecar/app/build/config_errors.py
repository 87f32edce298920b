"""What is wrong with a value or a file, as a ConfigError that says where it stands."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

from sidecar.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def config_errors_at(where: str) -> Iterator[None]:
    """Raise ConfigError for what is refused in here: a ValueError's text says what was expected."""
    try:
        yield
    except ssl.SSLError as fault:
        raise ConfigError([Problem(where, "expected certificates in PEM")]) from fault
    except OSError as fault:
        raise ConfigError([Problem(where, f"cannot be read: {fault.strerror}")]) from fault
    except ValueError as fault:
        raise ConfigError([Problem(where, f"expected {fault}")]) from fault
