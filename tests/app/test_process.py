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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_memory_of_password_checks() -> None:
    """Memory used by password checks is returned; otherwise the C library would keep it."""
    assert int(run(MEMORY, "given back")) < 4 << 20
    assert int(run(MEMORY, "kept")) > 16 << 20
