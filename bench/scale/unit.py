"""The unit in which costs are also given: one GET as redis-benchmark sends it.

On a Redis that does nothing else and is fully busy, it is one divided by the requests per second,
so anyone can measure it on their own machine.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from bench.children import StartError, pinned

if TYPE_CHECKING:
    from bench.lab import Lab
    from bench.scale.gauge import Gauge

REQUESTS = 100_000
COMMAND = ("redis-benchmark", "-c", "50", "-d", "400", "-q")


def measure(lab: Lab, gauge: Gauge) -> float:
    """The µs of CPU of one GET. Raises StartError if redis-benchmark fails."""
    if shutil.which(COMMAND[0]) is None:
        raise StartError("redis-benchmark is not installed; it comes with redis-tools")
    argv = [*pinned(lab.proxy_cpu), *COMMAND, "-p", str(lab.redis_port)]
    run([*argv, "-t", "set", "-n", "1"])  # the value that will be read
    before = gauge.cpu()
    run([*argv, "-t", "get", "-n", str(REQUESTS)])
    return (gauge.cpu() - before) * 1e6 / REQUESTS


def run(argv: list[str]) -> None:
    """Run redis-benchmark. Raises StartError if it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise StartError(f"redis-benchmark failed: {done.stderr}")
