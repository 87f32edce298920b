"""`sidecar demo`: serve in front of the demo application, with users and secrets of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.cli.serving import run_until_signal, start_logs
from sidecar.cli.terminal import UsageError, say
from sidecar.demo.stack import HOST, demo_settings, run_demo
from sidecar.settings import Address

if TYPE_CHECKING:
    from argparse import Namespace


def demo(arguments: Namespace) -> bool:
    """Run the demo. Raises UsageError for ports that collide, CommandFailed if it cannot listen."""
    ports = {
        "--port": arguments.port,
        "--admin-port": arguments.admin_port,
        "--app-port": arguments.app_port,
    }
    chosen = [number for number in ports.values() if number]
    if len(set(chosen)) < len(chosen):
        raise UsageError(f"expected three different ports; got {', '.join(map(str, chosen))}")
    settings = demo_settings(arguments.port, arguments.admin_port)
    work = run_demo(settings, arguments.app_port, start_logs(settings), say)
    return run_until_signal(work, {flag: Address(HOST, number) for flag, number in ports.items()})
