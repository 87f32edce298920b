"""TLS: the contexts made from settings and their files, and when each certificate expires."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.app.build.config_errors import config_errors_at

if TYPE_CHECKING:
    from sidecar.settings import Settings


def make_listener_tls(settings: Settings) -> ssl.SSLContext | None:
    """The listener's context; None for plain HTTP. Raises ConfigError."""
    if not settings.tls_cert_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = (
        ssl.TLSVersion.TLSv1_3 if settings.tls_min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    )
    context.set_alpn_protocols(["http/1.1"])
    with config_errors_at(f"tls_cert_file {settings.tls_cert_file}"):
        _load_certificate(context, settings.tls_cert_file, settings.tls_key_file)
    if settings.tls_client_auth != "off":
        required = settings.tls_client_auth == "required"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        # Resuming with a ticket skips the check of the client's certificate and brings another
        # ticket, so a client could continue after its certificate has expired. TLS 1.2 sessions
        # can be resumed for 5 minutes.
        context.num_tickets = 0
        with config_errors_at(f"tls_client_ca_file {settings.tls_client_ca_file}"):
            context.load_verify_locations(cafile=settings.tls_client_ca_file)
    return context


def make_upstream_tls(settings: Settings) -> ssl.SSLContext | None:
    """The context for connections to the application; None for plain HTTP. Raises ConfigError."""
    if settings.upstream_url.scheme != "https":
        return None
    file = settings.upstream_ca_file
    with config_errors_at(f"upstream_ca_file {file}"):
        context = ssl.create_default_context(cafile=file or None)
    if settings.upstream_cert_file:
        with config_errors_at(f"upstream_cert_file {settings.upstream_cert_file}"):
            _load_certificate(context, settings.upstream_cert_file, settings.upstream_key_file)
    return context


def check_redis_tls(settings: Settings) -> None:
    """Try the files for Redis. Raises ConfigError.

    Without this check, a file without a certificate would look like a Redis that is away.
    """
    file = settings.redis_ca_file
    if file:
        with config_errors_at(f"redis_ca_file {file}"):
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    if settings.redis_cert_file:
        with config_errors_at(f"redis_cert_file {settings.redis_cert_file}"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            _load_certificate(context, settings.redis_cert_file, settings.redis_key_file)


def read_expiries(settings: Settings) -> dict[str, float]:
    """When each own certificate expires, in seconds since the epoch, by the setting's name.

    Raises ConfigError.
    """
    files = {
        "tls_cert_file": settings.tls_cert_file,
        "upstream_cert_file": settings.upstream_cert_file,
        "redis_cert_file": settings.redis_cert_file,
    }
    expiries = {}
    for name, file in files.items():
        if file:
            with config_errors_at(f"{name} {file}"):
                expiries[name] = _expiry_of(Path(file).read_bytes())
    return expiries


def _expiry_of(pem: bytes) -> float:
    # The library takes 9 MiB, so it is imported only where there are certificates.
    from cryptography import x509  # noqa: PLC0415

    try:
        chain = x509.load_pem_x509_certificates(pem)
    except ValueError as fault:
        raise ValueError("expected certificates in PEM") from fault
    return min(each.not_valid_after_utc.timestamp() for each in chain)


def _load_certificate(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    """Raises ValueError if the two do not match, and for a key with a password."""

    def refuse() -> str:
        raise ValueError("expected a private key without a password: the sidecar cannot ask for it")

    try:
        context.load_cert_chain(cert_file, key_file, refuse)
    except ssl.SSLError as fault:
        raise ValueError("expected a certificate and its private key, both in PEM") from fault
