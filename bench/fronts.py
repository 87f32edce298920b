"""Proxies that ask a sidecar about each request, with the sample configurations from config/.

Owns what Envoy, Traefik and oauth2-proxy need to start. Must not know what is measured.
"""

from __future__ import annotations

import http.client
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import sidecar
from bench.children import START_SECONDS, Child, StartError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.lab import Lab

SAMPLES = Path(__file__).parents[1] / "config"
ONE_THREAD = {"GOMAXPROCS": "1"}  # every other proxy has one worker
OAUTH2_PROXY = (
    "--provider=oidc",
    "--skip-oidc-discovery",
    "--login-url=https://id.example.com/authorize",
    "--redeem-url=https://id.example.com/token",
    "--client-secret=unused",
    "--cookie-secret=0123456789abcdef0123456789abcdef",
    "--skip-jwt-bearer-tokens",
    "--oidc-email-claim=sub",
    "--email-domain=*",
    "--reverse-proxy",
    "--force-json-errors",
    "--request-logging=false",
    "--auth-logging=false",
    "--standard-logging=false",
)


def sample(lab: Lab, file: str, name: str, replaced: Mapping[str, str]) -> Path:
    """Write a sample with other addresses to a folder `name` of its own; returns its path.

    Raises StartError if it lacks one of the replaced texts.
    """
    text = (SAMPLES / file).read_text()
    for old, new in replaced.items():
        if old not in text:
            raise StartError(f"config/{file}: no {old!r} to replace")
        text = text.replace(old, new)
    folder = lab.directory / name
    folder.mkdir()
    folder.chmod(0o755)  # nginx's worker runs as another user
    path = folder / f"front-{file}"  # Traefik takes a traefik.yaml for another kind of file
    path.write_text(text)
    return path


def addresses(lab: Lab, port: int, asked: int, prefix: str = "127.0.0.1:") -> dict[str, str]:
    """The addresses in a sample, and those of this run."""
    return {
        f"{prefix}8000": f"{prefix}{port}",
        f"{prefix}5005": f"{prefix}{asked}",
        f"{prefix}8080": f"{prefix}{lab.upstream_port}",
    }


def start_nginx(lab: Lab, name: str, port: int, asked: int) -> Child:
    """Start nginx on `port`, in front of a sidecar on the port `asked`, with one worker."""
    replaced = addresses(lab, port, asked)
    replaced["worker_processes auto;"] = "worker_processes 1;"
    replaced["access_log off;"] = "access_log off; keepalive_requests 100000000;"
    config = sample(lab, "nginx.conf", name, replaced)
    argv = ["nginx", "-p", str(config.parent), "-c", str(config), "-g", "daemon off;"]
    return lab.children.spawn(name, argv, cpu=lab.proxy_cpu)


def start_envoy(lab: Lab, name: str, port: int, asked: int) -> Child:
    """Start Envoy on `port`, in front of a sidecar on the port `asked`, with one worker."""
    replaced = addresses(lab, port, asked, "port_value: ")
    replaced["127.0.0.1:5005"] = f"127.0.0.1:{asked}"
    config = sample(lab, "envoy.yaml", name, replaced)
    return lab.children.spawn(name, envoy_command(config), cpu=lab.proxy_cpu)


def envoy_command(config: Path) -> list[str]:
    """The command line of Envoy with one worker."""
    return [
        *("envoy", "-c", str(config), "--concurrency", "1"),
        *("--log-level", "warning", "--disable-hot-restart"),
    ]


def envoy_tls(pem: Path) -> str:
    """The socket of an Envoy listener with this key and certificate, as YAML flow style."""
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    files = f"{{certificate_chain: {{filename: {pem}}}, private_key: {{filename: {pem}}}}}"
    context = f'{{"@type": {kind}, common_tls_context: {{tls_certificates: [{files}]}}}}'
    return f"transport_socket: {{name: envoy.transport_sockets.tls, typed_config: {context}}}"


def start_traefik(lab: Lab, name: str, port: int, asked: int) -> Child:
    """Start Traefik on `port`, in front of a sidecar on the port `asked`, with one thread."""
    replaced = {key: new for key, new in addresses(lab, port, asked).items() if "8000" not in key}
    config = sample(lab, "traefik.yaml", name, replaced)
    return spawn_traefik(lab, name, config, port)


def spawn_traefik(lab: Lab, name: str, config: Path, port: int, *, tls: bool = False) -> Child:
    """Start Traefik with this dynamic configuration; returns when it has read it."""
    argv = [
        "traefik",
        f"--entryPoints.web.address=127.0.0.1:{port}",
        "--entryPoints.web.forwardedHeaders.trustedIPs=127.0.0.1/32",
        f"--providers.file.filename={config}",
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
        *(["--entryPoints.web.http.tls=true"] if tls else []),
    ]
    child = lab.children.spawn(name, argv, env=ONE_THREAD, cpu=lab.proxy_cpu)
    child.wait_listening(port)
    deadline = time.monotonic() + START_SECONDS
    while status(port, tls=tls) in {0, 404}:
        if time.monotonic() > deadline:
            raise StartError(f"{name} has no routes:\n{child.tail()}")
        time.sleep(0.05)
    return child


def status(port: int, *, tls: bool) -> int:
    """The status of a request without a token, or 0 without a response."""
    connection = sidecar.connect(port, tls=tls)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
