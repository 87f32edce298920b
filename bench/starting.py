"""How each measured proxy is started, in each of its setups.

Owns command lines and what is filled into the templates. Must not know the requests of scenarios.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import fronts, sidecar
from bench.children import Child, StartError, free_port
from bench.proxy import Proxy, Running
from bench.scenarios import Setup
from bench.tokens import AUDIENCE, ISSUER, OTHER_ISSUER, Algorithm

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.lab import Lab

ENVOY_CACHE = 2_000  # tokens: more than there are users


def run(lab: Lab, proxy: Proxy, setup: Setup, child: Child, port: int) -> Running:
    """A proxy without sessions, and the tokens that it accepts."""
    algorithm = Algorithm.RS256 if setup is Setup.RS256 else Algorithm.HS256
    tokens = lab.tokens.of_users(algorithm)
    if proxy.redis:
        lab.store_sessions(tokens)
    return Running((child,), port, tokens, algorithm, tls=setup is Setup.TLS)


def start_haproxy(lab: Lab, proxy: Proxy, setup: Setup) -> Running:
    """Start HAProxy in the foreground with one thread."""
    port, name = free_port(), f"{proxy.name}-{setup}"
    key, issuer, algorithm = lab.secret, ISSUER, Algorithm.HS256
    if setup is Setup.RS256:
        file = lab.directory / "rs256.pem"
        file.write_text(lab.tokens.public_pem())
        key, issuer, algorithm = str(file), OTHER_ISSUER, Algorithm.RS256
    tls = f" ssl crt {lab.certificate()}" if setup is Setup.TLS else ""
    values = {"PORT": str(port), "TLS": tls, "KEY": key, "ISSUER": issuer, "ALGORITHM": algorithm}
    config = lab.fill("haproxy.cfg", f"{name}.cfg", values)
    child = lab.children.spawn(name, ["haproxy", "-db", "-f", str(config)], cpu=lab.proxy_cpu)
    return run(lab, proxy, setup, child, port)


def start_nginx(lab: Lab, proxy: Proxy, setup: Setup) -> Running:
    """Start one of the nginx peers; if it queries Redis, store a session for each of its tokens."""
    port, name = free_port(), f"{proxy.name}-{setup}"
    template = "nginx-lua.conf" if proxy.checks_tokens else "nginx.conf"
    values = {"PORT": str(port), "NAME": name, "SESSION": str(proxy.redis).lower(), "TLS": ""}
    if setup is Setup.TLS:
        pem = lab.certificate()
        values["TLS"] = f" ssl; ssl_certificate {pem}; ssl_certificate_key {pem}"
        values["TLS"] += "; ssl_protocols TLSv1.2 TLSv1.3"
    config = lab.fill(template, f"{name}.conf", values)
    argv = ["nginx", "-c", str(config), "-p", str(lab.directory), "-g", "daemon off;"]
    child = lab.children.spawn(name, argv, cpu=lab.proxy_cpu)
    return run(lab, proxy, setup, child, port)


def start_caddy(lab: Lab, proxy: Proxy, setup: Setup) -> Running:
    """Start Caddy with GOMAXPROCS=1, because every other proxy has one worker."""
    port, name = free_port(), f"{proxy.name}-{setup}"
    values = {"PORT": str(port), "SCHEME": "http", "TLS": ""}
    if setup is Setup.TLS:
        pem = lab.certificate()
        values |= {"SCHEME": "https", "TLS": f"tls {pem} {pem}"}
    config = lab.fill("Caddyfile", f"Caddyfile-{setup}", values)
    argv = ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]
    env = {"GOMAXPROCS": "1", "HOME": str(lab.directory)}
    child = lab.children.spawn(name, argv, env=env, cpu=lab.proxy_cpu)
    return run(lab, proxy, setup, child, port)


def start_apache(lab: Lab, proxy: Proxy, setup: Setup) -> Running:
    """Start Apache in the foreground; its workers share the cache in Redis."""
    port, name = free_port(), f"{proxy.name}-{setup}"
    config = lab.fill("apache.conf", f"{name}.conf", {"PORT": str(port), "NAME": name})
    argv = ["apache2", "-DFOREGROUND", "-f", str(config)]
    child = lab.children.spawn(name, argv, cpu=lab.proxy_cpu)
    return Running((child,), port, lab.tokens.of_users(Algorithm.HS256))


def start_envoy(lab: Lab, proxy: Proxy, setup: Setup) -> Running:
    """Start Envoy with `jwt_authn`, with its cache of verified tokens if its name says so."""
    port, name = free_port(), f"{proxy.name}-{setup}"
    algorithm = Algorithm.RS256 if setup is Setup.RS256 else Algorithm.HS256
    cached = proxy.name == "envoy-cache"
    values = {
        "PORT": str(port),
        "ISSUER": lab.tokens.key(algorithm).issuer,
        "KEYS": lab.tokens.key_set(algorithm),
        "CACHE": f"jwt_cache_config: {{jwt_cache_size: {ENVOY_CACHE}}}" if cached else "",
        "TLS": fronts.envoy_tls(lab.certificate()) if setup is Setup.TLS else "",
    }
    config = lab.fill("envoy.yaml", f"{name}.yaml", values)
    child = lab.children.spawn(name, fronts.envoy_command(config), cpu=lab.proxy_cpu)
    return run(lab, proxy, setup, child, port)


def start_traefik(lab: Lab, proxy: Proxy, setup: Setup) -> Running:
    """Start Traefik with GOMAXPROCS=1."""
    port, name = free_port(), f"{proxy.name}-{setup}"
    pem = lab.certificate() if setup is Setup.TLS else None
    tls = f"tls: {{certificates: [{{certFile: {pem}, keyFile: {pem}}}]}}" if pem else ""
    config = lab.fill("traefik.yaml", f"{name}.yaml", {"TLS": tls})
    child = fronts.spawn_traefik(lab, name, config, port, tls=pem is not None)
    return run(lab, proxy, setup, child, port)


def start_oauth2_proxy(lab: Lab, proxy: Proxy, setup: Setup) -> Running:
    """Start oauth2-proxy with GOMAXPROCS=1; it takes RS256 tokens in every setup."""
    port = free_port()
    lab.write_key_set()
    argv = [
        proxy.tools[0],
        f"--http-address=127.0.0.1:{port}",
        f"--upstream=http://127.0.0.1:{lab.upstream_port}",
        f"--oidc-issuer-url={OTHER_ISSUER}",
        f"--oidc-jwks-url=http://127.0.0.1:{lab.upstream_port}/files/jwks.json",
        f"--client-id={AUDIENCE}",
        *fronts.OAUTH2_PROXY,
    ]
    env = {"GOMAXPROCS": "1"}
    child = lab.children.spawn(f"{proxy.name}-{setup}", argv, env=env, cpu=lab.proxy_cpu)
    return Running((child,), port, lab.tokens.of_users(Algorithm.RS256), Algorithm.RS256)


def start_sidecar(lab: Lab, proxy: Proxy, setup: Setup) -> Running:
    """Start the sidecar, and log each user in where a token needs a session."""
    started = sidecar.start(
        lab,
        f"{proxy.name}-{setup}",
        redis=proxy.redis,
        users=users(lab),
        special=special(lab, setup),
    )
    return with_tokens(lab, setup, (started.child,), started.port)


def users(lab: Lab) -> dict[str, str]:
    """The users whose tokens are sent, and the hashes of their passwords."""
    return dict.fromkeys(lab.tokens.users, sidecar.cheap_hash())


def special(lab: Lab, setup: Setup) -> sidecar.Special:
    """What a sidecar needs for a setup."""
    match setup:
        case Setup.SESSIONS:
            return sidecar.Special()
        case Setup.STATELESS:
            return sidecar.Special(('session_mode = "denylist"',))
        case Setup.TLS:
            pem = lab.certificate()
            return sidecar.Special((f'tls_cert_file = "{pem}"', f'tls_key_file = "{pem}"'))
        case Setup.RS256:
            lab.write_key_set()
            jwks = f"http://127.0.0.1:{lab.upstream_port}/files/jwks.json"
            table = [f'issuer = "{OTHER_ISSUER}"', f'audience = "{AUDIENCE}"']
            table += [f'jwks_url = "{jwks}"', 'algorithms = ["RS256"]', 'session_mode = "denylist"']
            return sidecar.Special(tables="\n".join(["[[issuer]]", *table]))


def with_tokens(lab: Lab, setup: Setup, children: tuple[Child, ...], port: int) -> Running:
    """A started sidecar and its tokens."""
    if setup is Setup.RS256:
        return Running(children, port, lab.tokens.of_users(Algorithm.RS256), Algorithm.RS256)
    if setup is Setup.STATELESS:
        return Running(children, port, lab.tokens.of_users(Algorithm.HS256))
    tls = setup is Setup.TLS
    answers = sidecar.log_in(port, lab.tokens.users, tls=tls)
    return Running(children, port, tuple(each.access_token for each in answers), tls=tls)


def start_behind(
    start_front: Callable[[Lab, str, int, int], Child],
) -> Callable[[Lab, Proxy, Setup], Running]:
    """How to start a proxy that asks a sidecar of its own about each request."""

    def start(lab: Lab, proxy: Proxy, setup: Setup) -> Running:
        behind = Proxy(f"{proxy.name}-behind", "", start_sidecar, frozenset(), ())
        asked = start_sidecar(lab, behind, setup)
        port = free_port()
        child = start_front(lab, proxy.name, port, asked.port)
        return Running((child, *asked.children), port, asked.tokens)

    return start


def start_direct(lab: Lab, proxy: Proxy, setup: Setup) -> Running:
    """Take the upstream itself for a proxy: what remains is the cost of client and upstream."""
    if lab.upstream is None:
        raise StartError(f"{proxy.name}: there is no upstream with setup {setup}")
    return Running((lab.upstream,), lab.upstream_port, lab.tokens.of_users(Algorithm.HS256))
