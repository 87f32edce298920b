"""What a process that serves asks of its system: files for connections, and memory given back."""

from __future__ import annotations

import contextlib
import ctypes
import resource
from typing import Final

# mallopt(3): its names for numbers, in <malloc.h>.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_MIB: Final = 1 << 20


def raise_file_limit() -> None:
    """Every connection is a file: take all the system gives."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # what we have is what we work with
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def give_memory_back() -> None:
    """Let the memory of a password check, 19 MiB each, go when it ends.

    After the first one glibc moves its threshold above that size and keeps what it has: measured,
    46 MiB at rest became 65 with the second login and 84 with two at once, for ever. A threshold
    that is set stays. Buffers of bodies are below it, where taking and freeing costs nothing.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library: it has its own ways
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, 4 * _MIB)
        mallopt(_TRIM_THRESHOLD, _MIB)
