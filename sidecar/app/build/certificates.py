"""TLS: the contexts that settings and their files give, and when each certificate ends."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.app.build.config_errors import config_errors_at

if TYPE_CHECKING:
    from sidecar.settings import Settings


def make_listener_tls(settings: Settings) -> ssl.SSLContext | None:
    """What clients agree on; None where they speak plain HTTP. Raises ConfigError."""
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
        # With a ticket, and with the next one that it brings, a client would come back without its
        # certificate's being looked at, also when that has ended. TLS 1.2 has them for 5 minutes.
        context.num_tickets = 0
        with config_errors_at(f"tls_client_ca_file {settings.tls_client_ca_file}"):
            context.load_verify_locations(cafile=settings.tls_client_ca_file)
    return context


def make_upstream_tls(settings: Settings) -> ssl.SSLContext | None:
    """How the application is spoken to; None for plain HTTP. Raises ConfigError."""
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
    """Without this, a file that holds no certificate would pass for a Redis that is away.

    Raises ConfigError.
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
    """When our own certificates end, by setting, in seconds since the epoch. Raises ConfigError."""
    found = {}
    for name in ("tls_cert_file", "upstream_cert_file", "redis_cert_file"):
        file = getattr(settings, name)
        if file:
            with config_errors_at(f"{name} {file}"):
                found[name] = _end_of(Path(file).read_bytes())
    return found


def _end_of(pem: bytes) -> float:
    # 9 MiB, for those who have certificates.
    from cryptography import x509  # noqa: PLC0415

    try:
        chain = x509.load_pem_x509_certificates(pem)
    except ValueError as fault:
        raise ValueError("expected certificates in PEM") from fault
    return min(each.not_valid_after_utc.timestamp() for each in chain)


def _load_certificate(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    """Raises ValueError for a pair that is none, and for a key that has a password."""

    def refuse() -> str:
        raise ValueError("expected a private key without a password: the sidecar cannot ask for it")

    try:
        context.load_cert_chain(cert_file, key_file, refuse)
    except ssl.SSLError as fault:
        raise ValueError("expected a certificate and its private key, both in PEM") from fault
