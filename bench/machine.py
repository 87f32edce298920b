"""The machine of a run: CPU, kernel, and the versions of all programs.

Owns the queries. Must not know what the programs are used for.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import msgspec

ASK = {
    "nginx": ["nginx", "-v"],
    "HAProxy": ["haproxy", "-v"],
    "Caddy": ["caddy", "version"],
    "Envoy": ["envoy", "--version"],
    "Traefik": ["traefik", "version"],
    "oauth2-proxy": ["oauth2-proxy", "--version"],
    "Apache": ["apache2", "-v"],
    "Redis": ["redis-server", "--version"],
    "wrk": ["wrk", "-v"],
}
LIBRARIES = ("auth-sidecar", "uvloop", "aiohttp", "redis", "pyjwt")


class Machine(msgspec.Struct, frozen=True):
    """A machine, with the version number of each program."""

    cpu: str
    cpus: int
    memory_gib: float
    kernel: str
    versions: dict[str, str]


def describe() -> Machine:
    """Query the machine and each program that is installed."""
    versions = {name: program_version(argv) for name, argv in ASK.items() if shutil.which(argv[0])}
    versions["Python"] = platform.python_version()
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "not installed as a package"
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpu=cpu_model(Path("/proc/cpuinfo").read_text()),
        cpus=os.cpu_count() or 1,
        memory_gib=round(pages / 2**30, 1),
        kernel=platform.release(),
        versions=versions,
    )


def cpu_model(cpuinfo: str) -> str:
    """The first model name in /proc/cpuinfo, or else the architecture."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def program_version(argv: list[str]) -> str:
    """The first version number that a program prints, on either stream and with any status."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    return version_in(done.stdout + done.stderr)


def version_in(text: str) -> str:
    """The first text that looks like a version: digits, dots, a distribution's suffix."""
    found = re.search(r"\d+\.\d+[\w.+~-]*", text)
    return found.group() if found else "unknown"


def command_line() -> str:
    """The running command, as a user would type it."""
    return " ".join(["python -m bench", *sys.argv[1:]])
