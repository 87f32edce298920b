"""The environment of a run: upstream, Redis, secrets and generated configurations.

Owns everything that the measured proxies share. Must not know the proxies or the scenarios.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.certificate import write_certificate
from bench.children import PATIENCE, Child, Children, StartError, free_port
from bench.scenarios import KIB, MIB
from bench.tokens import Algorithm, TokenMaker, user_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TEMPLATES = Path(__file__).with_name("peers")
MODULES = "/usr/lib/nginx/modules"
APACHE_MODULES = "/usr/lib/apache2/modules"
USERS = 1_000


class Lab:
    """An upstream, a Redis if requested, and what is needed to start proxies in front of them.

    `users` is the number of users whose tokens the requests of the comparison have.
    """

    def __init__(self, children: Children, *, pin: bool = False, users: int = USERS) -> None:
        self.children = children
        self.directory = children.directory
        self.secret = secrets.token_hex(32)
        self.refresh_secret = secrets.token_hex(32)
        self.tokens = TokenMaker(self.secret, user_names(users))
        self.proxy_cpu, self.other_cpu, self.client_cpu = chosen_cpus(pin=pin)
        self.upstream_port = 0
        self.redis_port = 0
        self.upstream: Child | None = None
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
        self.upstream, self.upstream_port = self._start_nginx("upstream", {})

    def start_nginx(self, name: str, values: Mapping[str, str]) -> int:
        """Start an nginx from the template `name` with `values`, and return its port."""
        return self._start_nginx(name, values)[1]

    def _start_nginx(self, name: str, values: Mapping[str, str]) -> tuple[Child, int]:
        port = free_port()
        config = self.fill(f"{name}.conf", f"{name}.conf", {**values, "PORT": str(port)})
        argv = ["nginx", "-c", str(config), "-p", str(self.directory), "-g", "daemon off;"]
        child = self.children.spawn(name, argv, cpu=self.other_cpu)
        child.wait_listening(port)
        return child, port

    def start_streams(self) -> int:
        """Start the streaming application (`stream_upstream`), and return its port."""
        port = free_port()
        argv = [sys.executable, "-m", "bench.stream_upstream", str(port)]
        self.children.spawn("stream-upstream", argv).wait_listening(port)
        return port

    def start_redis(self, *options: str) -> Child:
        """Start a Redis without persistence; `options` are arguments of its command line."""
        self.redis, self.redis_port = self.spawn_redis("redis", *options)
        return self.redis

    def spawn_redis(self, name: str, *options: str) -> tuple[Child, int]:
        """Start one more Redis, and return it with its port."""
        port = free_port()
        argv = ["redis-server", "--port", str(port), "--bind", "127.0.0.1"]
        argv += ["--save", "", "--appendonly", "no", "--dir", str(self.directory), *options]
        child = self.children.spawn(name, argv, cpu=self.other_cpu)
        child.wait_listening(port)
        return child, port

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

    def write_key_set(self) -> None:
        """Let the upstream serve the public key of RS256 tokens, at /files/jwks.json."""
        file = self.directory / "files" / "jwks.json"
        file.write_text(self.tokens.key_set(Algorithm.RS256))
        file.chmod(0o644)

    def certificate(self) -> Path:
        """A PEM file with the key and the certificate of the proxies with TLS."""
        file = self.directory / "server.pem"
        return file if file.exists() else write_certificate(file)

    def store_sessions(self, tokens: Sequence[str]) -> None:
        """Write a session for each token to Redis, under the key that the Lua peer reads."""
        with socket.create_connection(
            ("127.0.0.1", self.redis_port), timeout=PATIENCE
        ) as connection:
            answers = connection.makefile("rb")
            for token in tokens:
                key = b"session:token:" + hashlib.sha256(token.encode()).hexdigest().encode()
                command = b'*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$15\r\n{"sub":"alice"}\r\n'
                connection.sendall(command % (len(key), key))
                answer = answers.readline()
                if not answer.startswith(b"+OK"):
                    raise StartError(f"Redis did not take the session: {answer!r}")


def chosen_cpus(*, pin: bool) -> tuple[int | None, int | None, int | None]:
    """The CPUs of the proxies, of upstream and Redis, and of the client.

    The last two share one if there are only two CPUs. All are None on a single CPU, or without
    `pin`.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if not pin or len(cpus) < 2:
        return None, None, None
    return cpus[0], cpus[1], cpus[2] if len(cpus) > 2 else cpus[1]


def filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with each `@KEY@` replaced by its value. Raises StartError if a mark has no value."""
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    left = [word for word in text.split("@")[1::2] if word.isupper() and word.isascii()]
    if left:
        raise StartError(f"configuration template: no value for {', '.join(sorted(set(left)))}")
    return text
