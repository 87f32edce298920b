"""The environment of a run: upstream, Redis, secrets and generated configurations.

Owns everything that the measured proxies share. Must not know the proxies or the scenarios.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import jwt

from bench.children import Child, Children, StartError, free_port
from bench.scenarios import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATES = Path(__file__).with_name("peers")
MODULES = "/usr/lib/nginx/modules"
APACHE_MODULES = "/usr/lib/apache2/modules"
ISSUER = AUDIENCE = "auth-sidecar"
TOKEN_SECONDS = 12 * 3600


class Lab:
    """An upstream, a Redis if requested, and what is needed to start proxies in front of them."""

    def __init__(self, children: Children, *, pin: bool = False) -> None:
        self.children = children
        self.directory = children.directory
        self.secret = secrets.token_hex(32)
        self.refresh_secret = secrets.token_hex(32)
        self.proxy_cpu, self.other_cpu = two_cpus() if pin else (None, None)
        self.upstream_port = 0
        self.redis_port = 0
        self.redis: Child | None = None

    def __repr__(self) -> str:
        return f"<Lab upstream={self.upstream_port} redis={self.redis_port} in {self.directory}>"

    def start_upstream(self) -> None:
        """Start the nginx that acts as the application, with its files."""
        files = self.directory / "files"
        files.mkdir()
        (files / "10k").write_bytes(b"x" * 10 * KIB)
        (files / "1m").write_bytes(b"x" * MIB)
        for path in (self.directory, files):
            path.chmod(0o755)  # nginx's worker runs as another user
        self.upstream_port = self.start_nginx("upstream", {})

    def start_nginx(self, name: str, values: Mapping[str, str]) -> int:
        """Start an nginx from the template `name` with `values`, and return its port."""
        port = free_port()
        config = self.fill(f"{name}.conf", f"{name}.conf", {**values, "PORT": str(port)})
        argv = ["nginx", "-c", str(config), "-p", str(self.directory), "-g", "daemon off;"]
        self.children.spawn(name, argv, cpu=self.other_cpu).wait_listening(port)
        return port

    def start_streams(self) -> int:
        """Start the streaming application (`stream_upstream`), and return its port."""
        port = free_port()
        argv = [sys.executable, "-m", "bench.stream_upstream", str(port)]
        self.children.spawn("stream-upstream", argv).wait_listening(port)
        return port

    def start_redis(self) -> None:
        """Start a Redis without persistence."""
        self.redis_port = free_port()
        argv = ["redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1"]
        argv += ["--save", "", "--appendonly", "no", "--dir", str(self.directory)]
        self.redis = self.children.spawn("redis", argv, cpu=self.other_cpu)
        self.redis.wait_listening(self.redis_port)

    def fill(self, template: str, name: str, values: Mapping[str, str]) -> Path:
        """Write a template with its `@KEY@` marks replaced, and return its path."""
        shared = {
            "DIR": str(self.directory),
            "CONF": str(TEMPLATES),
            "MODULES": MODULES,
            "APACHE": APACHE_MODULES,
            "SECRET": self.secret,
            "UPSTREAM": str(self.upstream_port),
            "REDIS": str(self.redis_port),
        }
        path = self.directory / name
        path.write_text(filled((TEMPLATES / template).read_text(), {**shared, **values}))
        return path

    def mint(self) -> str:
        """An access token like the sidecar's, for peers that only verify tokens."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "alice",
            "sid": secrets.token_urlsafe(16),
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "nbf": now,
            "exp": now + TOKEN_SECONDS,
            "roles": ["user"],
        }
        return jwt.encode(claims, self.secret, algorithm="HS256", headers={"typ": "at+jwt"})

    def store_session(self, token: str) -> None:
        """Write a session for `token` to Redis, under the key that the Lua peer reads."""
        key = b"session:token:" + hashlib.sha256(token.encode()).hexdigest().encode()
        command = b'*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$15\r\n{"sub":"alice"}\r\n' % (len(key), key)
        with socket.create_connection(("127.0.0.1", self.redis_port), timeout=5) as connection:
            connection.sendall(command)
            answer = connection.recv(64)
        if not answer.startswith(b"+OK"):
            raise StartError(f"Redis did not take the session: {answer!r}")


def two_cpus() -> tuple[int | None, int | None]:
    """One CPU for the proxies and one for everything else; (None, None) on a single CPU."""
    cpus = sorted(os.sched_getaffinity(0))
    return (cpus[0], cpus[1]) if len(cpus) > 1 else (None, None)


def filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with each `@KEY@` replaced by its value. Raises StartError if a mark has no value."""
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    left = [word for word in text.split("@")[1::2] if word.isupper() and word.isascii()]
    if left:
        raise StartError(f"configuration template: no value for {', '.join(sorted(set(left)))}")
    return text
