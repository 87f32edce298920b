"""Process settings of a serving sidecar, each tested in a separate process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FILES = """
import resource
from sidecar.app.process import raise_file_limit
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
raise_file_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard)
"""
CONNECTIONS = """
import resource, sys
from sidecar.app.process import connections_within_files
files, *arguments = map(int, sys.argv[1:])
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
print(connections_within_files(*arguments))
"""
MEMORY = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from sidecar.api.passwords import hash_password, verify
from sidecar.app.process import give_memory_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "given back":
    give_memory_back()
encoded = hash_password("right")
before = resident()
with ThreadPoolExecutor(2) as threads:
    assert all(threads.map(verify, [encoded] * 6, ["right"] * 6))
    print(resident() - before)
"""


def run(program: str, *arguments: str) -> str:
    """Run a program and return what it prints."""
    argv = [sys.executable, "-c", program, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def test_files() -> None:
    """The limit on open files is raised to the hard limit."""
    assert run(FILES) == "True"


@pytest.mark.parametrize(
    ("files", "wanted", "upstream", "connections"),
    [
        pytest.param(10_000, 5_000, 256, 5_000, id="enough"),
        pytest.param(10_000, 9_000, 256, 8_336, id="too-few"),
        pytest.param(10_000, 0, 256, 8_336, id="no-limit-wanted"),
        pytest.param(10_000, 9_000, 2_256, 6_336, id="many-to-the-application"),
        pytest.param(1_024, 9_000, 256, 256, id="hardly-any"),
    ],
)
def test_connections_leave_files_for_the_rest(
    files: int, wanted: int, upstream: int, connections: int
) -> None:
    """Client connections never take the files that probes, Redis and the application need."""
    arguments = (files, wanted, upstream)
    assert run(CONNECTIONS, *map(str, arguments)) == str(connections)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_memory_of_password_checks() -> None:
    """Memory used by password checks is returned; otherwise the C library would keep it."""
    assert int(run(MEMORY, "given back")) < 4 << 20
    assert int(run(MEMORY, "kept")) > 16 << 20
