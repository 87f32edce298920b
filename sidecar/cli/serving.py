"""`sidecar run`: serve until a signal arrives, or say why that is impossible."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

import uvloop

from sidecar.app.process import give_memory_back, raise_file_limit
from sidecar.cli.loading import config_path, load_arguments
from sidecar.cli.spared_roots import spared_roots
from sidecar.cli.terminal import CommandFailed
from sidecar.settings import secrets_of
from sidecar.telemetry.logs import Redactor, configure

with spared_roots():  # this imports aiohttp
    from sidecar.app.serve import serve

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Coroutine, Mapping

    from sidecar.settings import Address, Loaded, Settings


def run(arguments: Namespace) -> bool:
    """Run the sidecar. Raises ConfigError, and CommandFailed if it cannot listen."""
    loaded = load_arguments(arguments)
    settings = loaded.settings
    redactor = start_logs(settings)
    addresses = {"--listen": settings.listen, "--admin-listen": settings.admin_listen}

    def reread() -> Loaded:
        changed = load_arguments(arguments)
        for secret in secrets_of(changed.settings):
            redactor.add(secret)
        return changed

    work = serve(loaded, redactor=redactor, reread=reread, path=config_path(arguments))
    return run_until_signal(work, addresses)


def start_logs(settings: Settings) -> Redactor:
    """Send logs to standard output, with every secret of the settings redacted."""
    redactor = Redactor(secrets_of(settings), cookie=settings.session_cookie)
    configure(level=settings.log_level, form=settings.log_format, redactor=redactor)
    return redactor


def run_until_signal(work: Coroutine[Any, Any, bool], addresses: Mapping[str, Address]) -> bool:
    """Run until a signal arrives; return whether the shutdown was orderly.

    `addresses` are the listen addresses by flag. Raises CommandFailed if one cannot be used.
    """
    raise_file_limit()
    give_memory_back()
    try:
        return uvloop.run(work)
    except OSError as fault:
        if obstacles := _obstacles(addresses):
            raise CommandFailed("\n".join(obstacles)) from fault
        raise


def _obstacles(addresses: Mapping[str, Address]) -> list[str]:
    """Return a message for each address on which it is impossible to listen."""
    found = []
    for flag, address in addresses.items():
        try:
            _try_to_listen(address)
        except OSError as fault:
            if fault.errno == errno.EADDRINUSE:
                found.append(
                    f"port {address.port} is taken (another program listens on {address}); "
                    f"choose another with {flag}"
                )
            else:
                found.append(f"cannot listen on {address} ({fault.strerror}); see {flag}")
    return found


def _try_to_listen(address: Address) -> None:
    """Bind the address as a server would, and release it. Raises OSError."""
    ((family, kind, _, _, where), *_) = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    with socket.socket(family, kind) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind(where)
