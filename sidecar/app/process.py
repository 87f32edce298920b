"""What a serving process sets in its operating system: the file limit and the C allocator."""

from __future__ import annotations

import contextlib
import ctypes
import resource
from typing import Final

# Files for what is not a client's connection: the admin port (64 and as many in-process pairs), the
# pairs of the control plane (128), Redis, logs and libraries (64); and the connections beyond the
# limit that still get an answer (1,024).
_RESERVED: Final = 64 + 128 + 128 + 64 + 1024
# The parameters of mallopt(3), as <malloc.h> numbers them.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_MIB: Final = 1 << 20


def raise_file_limit() -> None:
    """Raise the limit of open files to the hard limit, because each connection is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # otherwise the present limit stays
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_within_files(wanted: int, upstream: int) -> int:
    """The number of client connections, at most `wanted` (0: any), that leave files for the rest.

    `upstream` is the number of connections to the application. Without a file left, the port of the
    probes could accept none, and a flood of clients would have this process restarted.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    most = max(files - upstream - _RESERVED, files // 4)
    return min(wanted or most, most)


def give_memory_back() -> None:
    """Make glibc return the memory of a password check (19 MiB) when the check ends.

    After the first large block glibc raises its threshold above that size and keeps such blocks:
    measured, 46 MiB at rest became 65 with the second login and 84 with two at once, permanently. A
    fixed threshold prevents this. Buffers of bodies are smaller, so they stay as cheap as before.
    """
    with contextlib.suppress(AttributeError, OSError):  # a C library without mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, 4 * _MIB)
        mallopt(_TRIM_THRESHOLD, _MIB)
