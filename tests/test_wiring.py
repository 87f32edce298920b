"""Guards for what is easily forgotten: a setting that is not used, a value that a reload leaves."""

from __future__ import annotations

import ast
import json
import logging
import ssl
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jwt
import pytest

from sidecar.api.services import LiveConfig, Services
from sidecar.app.reload import Reloader
from sidecar.app.sidecar import Sidecar
from sidecar.auth.decision import Deny
from sidecar.auth.reason import Reason
from sidecar.auth.route_rule import RouteRule
from sidecar.auth.tokens import IssuerConfig
from sidecar.proxy.connectors import TcpConnector
from sidecar.proxy.context import DataPlaneContext, Limits
from sidecar.proxy.upstream_pool import UpstreamPoolLimits
from sidecar.sessions.redis.connect import RedisConfig
from sidecar.settings import CorsSettings, IssuerSettings, RouteSettings, Settings, load
from sidecar.settings.changes import FIXED
from sidecar.wire.head import RequestHead
from tests.auth import forge
from tests.peers.certificates import certificate
from tests.peers.stack import ALICE, REFRESH_SECRET, SECRET, User, mint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PACKAGE: Final = Path(__file__).parent.parent / "sidecar"
FIELDS: Final = set(Settings.__struct_fields__)


# Which attributes the code reads


@cache
def trees(*parts: str) -> tuple[ast.Module, ...]:
    """The syntax trees of these files, and of all files in these folders, of the package."""
    files = [file for part in parts for file in [PACKAGE / part, *(PACKAGE / part).rglob("*.py")]]
    return tuple(ast.parse(file.read_text("utf-8")) for file in files if file.is_file())


def last_name(node: ast.expr) -> str:
    """`limits` for `limits`, `self._limits` and `self.context.limits`."""
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return str(name).lstrip("_")


def reads(node: ast.AST, receivers: set[str], *, without: str = "") -> Iterator[str]:
    """Every attribute that is read from something with one of these names.

    The class `without` is left out: what it does with its own fields does not use them.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and child.name == without:
            continue
        if isinstance(child, ast.Attribute) and last_name(child.value) in receivers:
            yield child.attr
        yield from reads(child, receivers, without=without)


def reads_of_rows(node: ast.AST, table: str) -> Iterator[str]:
    """Every attribute that a loop over `settings.<table>` reads from its variables."""
    comprehensions = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    for loop in ast.walk(node):
        parts: list[Any] = []
        if isinstance(loop, comprehensions):
            parts = loop.generators
        elif isinstance(loop, ast.For):
            parts = [loop]
        for part in parts:
            if table in reads(ast.Expr(part.iter), {"settings"}):
                names = {each.id for each in ast.walk(part.target) if isinstance(each, ast.Name)}
                yield from reads(loop, names)


def unread(settings: set[str]) -> set[str]:
    """Those of these settings that `app` does not read.

    `x_file` is read by `settings/secret_files.py` if there is a secret `x`, and becomes that.
    """
    used = {name for tree in trees("app") for name in reads(tree, {"settings"})}
    return {name for name in settings - used if name.removesuffix("_file") not in settings - {name}}


def test_every_setting_is_read() -> None:
    """By `app`: a setting that it does not read would be documented and have no effect."""
    assert unread(FIELDS) == set()


def test_a_setting_that_nobody_reads_is_noticed() -> None:
    """A setting that is declared and used nowhere is reported by its name."""
    assert unread(FIELDS | {"sign_in_title"}) == {"sign_in_title"}


@pytest.mark.parametrize(
    ("table", "row"),
    [
        pytest.param("route", RouteSettings, id="route"),
        pytest.param("issuer", IssuerSettings, id="issuer"),
    ],
)
def test_every_key_of_a_table_is_read(
    table: str, row: type[RouteSettings | IssuerSettings]
) -> None:
    """The keys of `[[route]]` and `[[issuer]]` are read where their rows are looped over."""
    used = {name for tree in trees("app") for name in reads_of_rows(tree, table)}
    assert set(row.__struct_fields__) - used == set()


def test_every_key_of_the_cors_table_is_read() -> None:
    """A key of `[cors]` that `app` does not read would have no effect."""
    used = {name for tree in trees("app") for name in reads(tree, {"cors"})}
    assert set(CorsSettings.__struct_fields__) - used == set()


def test_settings_are_read_by_name() -> None:
    """`getattr(settings, name)` would hide from these tests what is read."""
    hidden = [
        ast.unparse(node)
        for tree in trees("app")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "getattr"
        and last_name(node.args[0]) == "settings"
    ]
    assert hidden == []


@pytest.mark.parametrize(
    ("kind", "receiver", "files"),
    [
        pytest.param(LiveConfig, "current", ["api"], id="LiveConfig"),
        pytest.param(Services, "services", ["api"], id="Services"),
        pytest.param(DataPlaneContext, "context", ["proxy"], id="DataPlaneContext"),
        pytest.param(Limits, "limits", ["proxy"], id="Limits"),
        pytest.param(
            UpstreamPoolLimits,
            "limits",
            ["proxy/upstream_pool.py", "proxy/pool.py"],
            id="UpstreamPoolLimits",
        ),
        pytest.param(RedisConfig, "config", ["sessions/redis"], id="RedisConfig"),
        pytest.param(RouteRule, "rule", ["auth/routes.py"], id="RouteRule"),
        pytest.param(IssuerConfig, "config", ["auth/tokens.py"], id="IssuerConfig"),
    ],
)
def test_every_field_is_read(kind: type[Any], receiver: str, files: list[str]) -> None:
    """What `app` hands over is used by the code that gets it."""
    without = trees("proxy/upstream_pool.py") if kind is Limits else ()
    used = {
        name
        for tree in trees(*files)
        if tree not in without
        for name in reads(tree, {receiver}, without=kind.__name__)
    }
    assert set(kind.__slots__) - used == set()


# What a reload changes

OTHER: Final = "another secret of at least thirty-two bytes"
LONG: Final = "a secret that is long enough for HS512: at least sixty-four bytes of text"
FOREIGN: Final = "https://id.example"
BASE: Final[Mapping[str, Any]] = {
    "listen": "127.0.0.1:0",
    "admin_listen": "127.0.0.1:0",
    "upstream_url": "https://a.test:9",
    "jwt_secret": SECRET,
    "refresh_secret": REFRESH_SECRET,
    "session_store": "local",
    "users_file": "users.toml",
}


@dataclass(frozen=True)
class Change:
    """A new value of one setting, as in the file, and what it must change in a running sidecar.

    `base` are other settings on both sides of the reload; those in `also` change with it.
    """

    value: Any
    observe: Callable[[Sidecar], object]
    base: Mapping[str, Any] = field(default_factory=dict)
    also: Mapping[str, Any] = field(default_factory=dict)


def live(sidecar: Sidecar) -> LiveConfig:
    """What the handlers of the control plane see."""
    return sidecar.trust.current


def context(sidecar: Sidecar) -> DataPlaneContext:
    """What the data plane sees."""
    found = sidecar.context
    assert found is not None
    return found


def limit(name: str) -> Callable[[Sidecar], object]:
    """A limit of client connections."""
    return lambda sidecar: getattr(context(sidecar).limits, name)


def accepts(token: Callable[[], str]) -> Callable[[Sidecar], object]:
    """Whether both planes accept this access token, which is made when it is shown."""

    def observe(sidecar: Sidecar) -> bool:
        text, now = token().encode(), time.time()
        head = RequestHead()
        head.authorization = b"Bearer " + text
        decision = context(sidecar).gate.decide(context(sidecar).routes.default, head, now)
        verified = live(sidecar).verifier.verify_access(text, now)
        return not isinstance(decision, Deny) and not isinstance(verified, Reason)

    return observe


def accepts_refresh(sidecar: Sidecar) -> bool:
    """Whether a refresh token signed with the other secret is accepted."""
    token = mint(secret=OTHER, headers={"typ": "refresh+jwt"})
    return not isinstance(
        live(sidecar).verifier.verify_refresh(token.encode(), time.time()), Reason
    )


def claims_elsewhere(sidecar: Sidecar) -> object:
    """Where the claims of the issuer behind `jwks_url` are."""
    config = live(sidecar).verifier.issuers["auth-sidecar"]
    return config.subject_claim, config.roles_claims, config.scopes_claims


def issued(sidecar: Sidecar) -> object:
    """The algorithm of issued access tokens."""
    token = live(sidecar).issuer.access("alice", "sid", {}, time.time(), "jti")
    return jwt.get_unverified_header(token)["alg"]


def with_other_secret() -> str:
    """A token that is signed with the other secret."""
    return mint(secret=OTHER)


def foreign() -> str:
    """A token of another issuer."""
    now = int(time.time())
    claims = {"iss": FOREIGN, "aud": "x", "iat": now, "nbf": now, "exp": now + 300}
    return forge.token(claims, {"kid": "rsa"}, alg="RS256").decode()


def listener_tls(sidecar: Sidecar) -> ssl.SSLContext:
    """The context of the traffic port."""
    found = context(sidecar).tls
    assert found is not None
    return found


def connector(sidecar: Sidecar) -> TcpConnector:
    """Opens connections to the application."""
    found = context(sidecar).upstreams["upstream"]._connector  # noqa: SLF001
    assert isinstance(found, TcpConnector)
    return found


def upstream_tls(sidecar: Sidecar) -> ssl.SSLContext:
    """The context of connections to the application."""
    found = connector(sidecar).tls
    assert found is not None
    return found


def server_certificate(sidecar: Sidecar) -> object:
    """What a client of the traffic port is shown."""
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return handshake(listener_tls(sidecar), client)[0].getpeercert(binary_form=True)


def client_certificate(sidecar: Sidecar) -> object:
    """What the application is shown."""
    folder = Path(sidecar.settings.users_file).parent
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "a.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    for name in ("a.pem", "b.pem"):
        server.load_verify_locations(folder / name)
    return handshake(server, upstream_tls(sidecar))[1].getpeercert(binary_form=True)


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a TLS connection, as the client and the server see it."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(back, there, server_hostname="a.test"),
        server.wrap_bio(there, back, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends


ELSEWHERE: Final = {"jwks_url": "https://127.0.0.1:9/keys"}
TLS: Final = {"tls_cert_file": "a.pem", "tls_key_file": "a.key"}
OTHER_TLS: Final = {"tls_cert_file": "b.pem", "tls_key_file": "b.key"}
CLIENT_TLS: Final = {
    "upstream_ca_file": "a.pem",
    "upstream_cert_file": "a.pem",
    "upstream_key_file": "a.key",
}
OTHER_CLIENT_TLS: Final = {"upstream_cert_file": "b.pem", "upstream_key_file": "b.key"}

CHANGES: Final[Mapping[str, Change]] = {
    "tls_cert_file": Change("b.pem", server_certificate, TLS, OTHER_TLS),
    "tls_key_file": Change("b.key", server_certificate, TLS, OTHER_TLS),
    "tls_min_version": Change("1.3", lambda it: listener_tls(it).minimum_version, TLS),
    "tls_client_auth": Change(
        "required", lambda it: listener_tls(it).verify_mode, TLS, {"tls_client_ca_file": "a.pem"}
    ),
    "tls_client_ca_file": Change(
        "b.pem",
        lambda it: listener_tls(it).get_ca_certs(),
        {**TLS, "tls_client_auth": "optional", "tls_client_ca_file": "a.pem"},
    ),
    "upstream_ca_file": Change("a.pem", lambda it: upstream_tls(it).get_ca_certs()),
    "upstream_cert_file": Change("b.pem", client_certificate, CLIENT_TLS, OTHER_CLIENT_TLS),
    "upstream_key_file": Change("b.key", client_certificate, CLIENT_TLS, OTHER_CLIENT_TLS),
    "upstream_server_name": Change("b.test", lambda it: connector(it).server_name),
    "upstream_timeout": Change("7s", limit("upstream_timeout")),
    "upstream_queue_timeout": Change("7s", limit("queue_timeout")),
    "jwt_secret": Change(OTHER, accepts(with_other_secret)),
    "jwt_secret_file": Change(
        "other.secret",
        accepts(with_other_secret),
        {"jwt_secret": None, "jwt_secret_file": "one.secret"},
    ),
    "jwt_secret_previous": Change(OTHER, accepts(with_other_secret)),
    "jwt_secret_previous_file": Change("other.secret", accepts(with_other_secret)),
    "refresh_secret": Change(OTHER, accepts_refresh),
    "refresh_secret_file": Change(
        "other.secret", accepts_refresh, {"refresh_secret": None, "refresh_secret_file": "2.secret"}
    ),
    "refresh_secret_previous": Change(OTHER, accepts_refresh),
    "refresh_secret_previous_file": Change("other.secret", accepts_refresh),
    "allow_weak_secrets": Change(
        True, accepts(lambda: mint(secret="a weak one")), also={"jwt_secret": "a weak one"}
    ),
    "jwt_private_key_file": Change("private.pem", lambda it: live(it).published_keys),
    "jwt_private_key_previous_file": Change("private.pem", lambda it: live(it).published_keys),
    "jwt_algorithm": Change("HS512", issued, {"jwt_secret": LONG}),
    "jwks_url": Change("https://127.0.0.1:9/keys", lambda it: "JwksFetcher" in repr(it.trust)),
    **{
        name: Change("a.b", claims_elsewhere, ELSEWHERE)
        for name in ("jwt_subject_claim", "jwt_roles_claim", "jwt_scopes_claim")
    },
    "jwt_leeway": Change("60s", accepts(lambda: mint(exp=int(time.time()) - 30))),
    "access_grace": Change("7s", lambda it: live(it).refreshing.access_grace),
    "refresh_grace": Change("7s", lambda it: live(it).refreshing.grace),
    "refresh_grace_client": Change("agent", lambda it: live(it).refreshing.client),
    "refresh_grace_repeats": Change(7, lambda it: live(it).refreshing.repeats),
    "refresh_min_interval": Change("7s", lambda it: live(it).refreshing.min_interval),
    "max_sessions": Change(7, lambda it: live(it).session_limit.most),
    "max_sessions_reached": Change("refuse", lambda it: live(it).session_limit.refuse),
    "session_outage": Change("strict", lambda it: context(it).routes.default.outage),
    "session_no_store": Change(False, lambda it: context(it).cache_control),
    "users_file": Change("bob.toml", lambda it: live(it).users.find("bob")),
    "login_url": Change("https://sso.example/", lambda it: context(it).login_url),
    "login_max_failures": Change(7, lambda it: live(it).guesses.user_address),
    "login_max_failures_address": Change(7, lambda it: live(it).guesses.address),
    "login_max_failures_user": Change(7, lambda it: live(it).guesses.user),
    "login_window": Change("7s", lambda it: live(it).guesses.window),
    "redirect_origins": Change(["https://b.example"], lambda it: live(it).redirect_origins),
    "cors": Change(
        {"origins": ["https://b.example"]},
        lambda it: all((live(it).cors, context(it).cors, it.trust.gate.cors)),
    ),
    "trusted_proxies": Change(["10.0.0.0/8"], lambda it: context(it).trusted_proxies),
    "header_timeout": Change("7s", limit("header_timeout")),
    "idle_timeout": Change("7s", limit("idle_timeout")),
    "max_connections": Change(7, limit("connections")),
    "max_connections_per_address": Change(7, limit("per_address")),
    "max_requests": Change(7, limit("requests")),
    "body_buffer_size": Change(7, limit("body_buffer")),
    "min_body_rate": Change(7, limit("body_rate")),
    "min_send_rate": Change(7, limit("send_rate")),
    # `serve` and `Reloader` read these from the sidecar when they need them.
    "drain_delay": Change("7s", lambda it: it.settings.drain_delay),
    "drain_timeout": Change("7s", lambda it: it.settings.drain_timeout),
    "watch_files": Change(False, lambda it: it.settings.watch_files),
    "log_level": Change("error", lambda _: logging.getLogger().level),
    "route": Change(
        [{"path": "/x", "name": "x"}], lambda it: [each.name for each in context(it).routes.all]
    ),
    "issuer": Change(
        [
            {
                "issuer": FOREIGN,
                "audience": "*",
                "key_file": "public.pem",
                "session_mode": "none",
            }
        ],
        accepts(foreign),
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The files that these settings name; the root logger's level is restored afterwards."""
    for name in ("a", "b"):
        pem = certificate(tmp_path, f"{name}.test").read_text()
        (tmp_path / f"{name}.pem").write_text(pem)
        (tmp_path / f"{name}.key").write_text(pem.partition("-----BEGIN CERTIFICATE")[0])
    (tmp_path / "one.secret").write_text(SECRET)
    (tmp_path / "2.secret").write_text(REFRESH_SECRET)
    (tmp_path / "other.secret").write_text(OTHER)
    key = forge.private_key("RS256")
    (tmp_path / "private.pem").write_bytes(forge.private_pem(key))
    (tmp_path / "public.pem").write_bytes(forge.public_pem(key))
    (tmp_path / "users.toml").write_text(ALICE.toml())
    (tmp_path / "bob.toml").write_text(User("bob").toml())
    level = logging.getLogger().level
    yield tmp_path
    logging.getLogger().setLevel(level)


def write(folder: Path, settings: Mapping[str, Any]) -> None:
    """A configuration file with these settings; None leaves one out."""
    plain = {name: value for name, value in settings.items() if not is_table(value)}
    lines = keys(plain)
    for name in settings.keys() - plain.keys():
        if isinstance(settings[name], dict):
            lines += [f"[{name}]", *keys(settings[name])]
            continue
        for row in settings[name]:
            lines += [f"[[{name}]]", *keys(row)]
    (folder / "sidecar.toml").write_text("\n".join(lines) + "\n")


def is_table(value: object) -> bool:
    """Whether a value is a table or a list of tables."""
    return isinstance(value, dict) or (
        isinstance(value, list) and all(isinstance(each, dict) for each in value)
    )


def keys(table: Mapping[str, Any]) -> list[str]:
    """A table's lines; JSON's texts, numbers, booleans and lists are TOML as well."""
    return [f"{name} = {json.dumps(value)}" for name, value in table.items() if value is not None]


@pytest.mark.parametrize("name", [name for name in Settings.__struct_fields__ if name not in FIXED])
async def test_a_reload_applies_the_setting(folder: Path, name: str) -> None:
    """Every setting that `settings/changes.py` does not list as fixed."""
    assert name in CHANGES, f"add {name} to CHANGES, or to FIXED in sidecar/settings/changes.py"
    change = CHANGES[name]
    before = {**BASE, **change.base}
    path = folder / "sidecar.toml"
    write(folder, before)
    sidecar = Sidecar(load(env={}, file=path).settings)
    reloader = Reloader(sidecar, lambda: load(env={}, file=path), str(path))
    await sidecar.start()
    try:
        seen = change.observe(sidecar)
        write(folder, {**before, **change.also, name: change.value})
        await reloader.reload()
        assert sidecar.metrics.reloads == {"success": 1, "failure": 0}
        assert change.observe(sidecar) != seen, f"a reload does not apply {name}"
    finally:
        await sidecar.stop()


def test_only_settings_that_a_reload_may_change() -> None:
    """The table names no setting that is fixed or gone."""
    assert CHANGES.keys() - (FIELDS - FIXED) == set()
