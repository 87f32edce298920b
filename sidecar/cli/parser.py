"""Defines the command line and its help texts. Runs nothing."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from typing import Any, Final

from sidecar.cli.version import describe_version

MAIN: Final = """\
examples:
  sidecar demo                            try it: with users, an application and curl commands
  sidecar check --config sidecar.toml     report every problem of a configuration
  sidecar run --config sidecar.toml       what a pod runs
  sidecar hash-password                   hash a password for the users file
  echo "$TOKEN" | sidecar token explain   see why a token is refused
  sidecar sessions list --user alice      see where a user is logged in

A setting comes from the first of these that has it: flags, environment, configuration file,
default. config/sidecar.toml explains every setting. Only two secrets must be set:

  export JWT_SECRET=$(openssl rand -base64 48) REFRESH_SECRET=$(openssl rand -base64 48)

exit codes: 0 success; 1 failure, or the answer is no; 2 invalid arguments or configuration
"""
RUN: Final = """\
examples:
  sidecar run --upstream http://127.0.0.1:3000
  sidecar run --config /etc/sidecar/sidecar.toml --log-level debug
  SESSION_STORE=local sidecar run         without Redis, for a single replica
  TLS_CERT_FILE=tls.crt TLS_KEY_FILE=tls.key sidecar run      serve clients over HTTPS

The configuration file and the files that it names are reloaded when they change, and on SIGHUP. If
the new configuration has problems, they are logged and the old one stays in effect. Some settings
need a restart; the log names them. On SIGTERM or SIGINT, the sidecar finishes the requests in
progress, then exits.
"""
DEMO: Final = """\
The users are alice (password demo-alice) and admin (password demo-admin). Sessions are kept in the
memory of this process, and each start makes new secrets. Press Ctrl-C to stop the demo.

examples:
  sidecar demo
  sidecar demo --port 5006 --admin-port 9106 --app-port 8081
"""
CHECK: Final = """\
Reports every problem with its place, and exits with 2 if there are any. Warns of settings that are
valid but let nobody in, or everybody, each with the way out. Warnings do not change the exit code;
with --strict, it is 1 if there are any. Starts nothing.

examples:
  sidecar check --config sidecar.toml
  sidecar check --config sidecar.toml --strict            before a deployment
  sidecar check --config sidecar.toml --print-config      every setting, and where it comes from
"""
HASH_PASSWORD: Final = """\
On a terminal, asks for the password twice; otherwise reads one line from standard input. A password
is never an argument, because every user of the machine can see the arguments of a command.

examples:
  sidecar hash-password
  printf %s "$PASSWORD" | sidecar hash-password

Put the printed hash into the users file:

  [[user]]
  name = "alice"
  password_hash = "$argon2id$..."
  roles = ["user"]
"""
TOKEN: Final = """\
examples:
  sidecar token mint --sub alice --role user --ttl 5m
  echo "$TOKEN" | sidecar token explain
"""
MINT: Final = """\
The token is signed with the configured key: JWT_SECRET or jwt_private_key_file. If session_mode is
"required", the sidecar accepts it only with a session; --store writes one to Redis.

examples:
  sidecar token mint --sub alice --role user --role admin --scope reports:read
  sidecar token mint --sub job-7 --ttl 12h --claim tenant=acme --claim level=3 --store
"""
EXPLAIN: Final = """\
Prints what is in a token, but never the token itself. Then says step by step what the sidecar makes
of it and why: issuer, key, audience, times, subject, roles, scopes, the headers that the
application would get, and the routes that would let it through. Exits with 1 if the token would be
refused. Fetches the keys of its issuer, unless --offline is given. Does not look up the session.

The token is read from standard input, with or without "Bearer " before it. As an argument, other
users of the machine can see it, and the shell may remember it.

examples:
  echo "$TOKEN" | sidecar token explain
  sidecar token explain --config sidecar.toml < token.txt
  sidecar token explain --offline --json "$TOKEN"
"""

SESSIONS: Final = """\
These commands use the Redis that all pods share. They read it in small steps, never with KEYS.
Ending a session takes effect at every pod immediately.

examples:
  sidecar sessions list --user alice
  sidecar sessions count
  sidecar sessions revoke --user alice
"""
SESSIONS_LIST: Final = """\
examples:
  sidecar sessions list --limit 20
  sidecar sessions list --user alice --json      one JSON object per line
"""
SESSIONS_SHOW: Final = """\
examples:
  sidecar sessions show 2hFvq0Nq3bQnZ8m4r1JpXw
"""
SESSIONS_REVOKE: Final = """\
Ends the access token and the refresh token of a session at every pod, and removes the session from
the list. A token is read from standard input and is never an argument, because every user of the
machine can see the arguments of a command.

examples:
  sidecar sessions revoke --sid 2hFvq0Nq3bQnZ8m4r1JpXw
  sidecar sessions revoke --user alice --before 2026-01-31T12:00:00Z
  sidecar sessions revoke --all
  echo "$TOKEN" | sidecar sessions revoke --token
  sidecar sessions revoke --issuer https://id.example.com --jti 7f0c52d1
  sidecar sessions revoke --issuer https://id.example.com --user alice --before 2026-01-31T12:00:00Z
"""


COMPLETION: Final = """\
examples:
  source <(sidecar completion bash)                               in this shell
  sidecar completion bash > ~/.local/share/bash-completion/completions/sidecar
  sidecar completion zsh > "${fpath[1]}/_sidecar"
"""
SHELLS: Final = ("bash", "zsh")

# The commands, and those below `token` and `sessions`, to recognise a mistyped one
COMMANDS: Final = {
    "": ("run", "demo", "check", "hash-password", "token", "sessions", "completion", "version"),
    "token": ("mint", "explain", "inspect"),
    "sessions": ("list", "show", "revoke", "count"),
}


# The parser stores the text of each flag under the name of its setting; `settings` reads it.
SETTING_FLAGS: Final = (
    ("--listen", "listen", "ADDRESS", "listen for clients here (default: 0.0.0.0:5005)"),
    (
        *("--admin-listen", "admin_listen", "ADDRESS"),
        "serve metrics and probes here (default: 0.0.0.0:9105)",
    ),
    (
        *("--upstream", "upstream_url", "URL"),
        "URL of the application (default: http://127.0.0.1:8080)",
    ),
    ("--log-level", "log_level", "LEVEL", "debug, info, warning or error (default: info)"),
)


def build_parser() -> ArgumentParser:
    """Build the parser. Parsed arguments have the name of the command's function in `command`."""
    parser = ArgumentParser(
        prog="sidecar",
        description="An auth sidecar: forwards a request only if its session is live.",
        epilog=MAIN,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    version = describe_version()
    parser.add_argument("--version", action="version", version=version, help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_settings(_add(commands, "run", "run the sidecar in front of an application", RUN))
    _add_ports(_add(commands, "demo", "run the sidecar in front of a demo application", DEMO))
    check = _add(commands, "check", "check the configuration", CHECK)
    _add_settings(check)
    check.add_argument("--print-config", action="store_true", help="print all settings as TOML")
    check.add_argument("--strict", action="store_true", help="exit with 1 if there are warnings")
    check.add_argument("--json", action="store_true", help="print the result as one JSON object")
    _add(commands, "hash-password", "hash a password for the users file", HASH_PASSWORD)
    token = _add(commands, "token", "make or explain a token", TOKEN)
    tokens = token.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_mint(_add(tokens, "mint", "make an access token", MINT))
    about = "show what the sidecar makes of a token, and why"
    _add_explain(_add(tokens, "explain", about, EXPLAIN))
    _add_explain(_add(tokens, "inspect", "the former name of `explain`", EXPLAIN))
    _add_sessions(_add(commands, "sessions", "list, show, count or end sessions", SESSIONS))
    completion = _add(commands, "completion", "print the completion for a shell", COMPLETION)
    completion.add_argument("shell", choices=SHELLS, help="the shell that reads it")
    _add(commands, "version", "print the version", "")
    return parser


class _Help(RawDescriptionHelpFormatter):
    """Keeps the line breaks of the examples, and leaves room for the longest option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=100)


def _add(commands: Any, name: str, about: str, epilog: str) -> ArgumentParser:
    parser: ArgumentParser = commands.add_parser(
        name,
        help=about,
        description=f"{about[0].upper()}{about[1:]}.",
        epilog=epilog,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    parser.set_defaults(command=name.replace("-", "_"))
    return parser


def _add_config(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="configuration file (default: $SIDECAR_CONFIG)"
    )


def _add_settings(parser: ArgumentParser) -> None:
    _add_config(parser)
    for flag, name, metavar, text in SETTING_FLAGS:
        parser.add_argument(flag, dest=name, metavar=metavar, help=text)


def _add_ports(parser: ArgumentParser) -> None:
    for flag, default, text in (
        ("--port", 5005, "the sidecar's port for clients"),
        ("--admin-port", 9105, "the sidecar's port for metrics and probes"),
        ("--app-port", 8080, "the demo application's port"),
    ):
        about = f"{text} (default: {default}; 0: any free port)"
        parser.add_argument(flag, type=port, default=default, metavar="PORT", help=about)


def _add_mint(parser: ArgumentParser) -> None:
    _add_config(parser)
    add = parser.add_argument
    add("--sub", required=True, metavar="SUBJECT", help="the user of the token")
    add("--role", action="append", default=[], metavar="ROLE", help="a role; may be repeated")
    add("--scope", action="append", default=[], metavar="SCOPE", help="a scope; may be repeated")
    lifetime = "lifetime such as 5m or 12h (default: access_token_expiry)"
    add("--ttl", metavar="DURATION", help=lifetime)
    claim = "another claim; VALUE is JSON, or else a string; may be repeated"
    add("--claim", action="append", default=[], metavar="NAME=VALUE", help=claim)
    add("--store", action="store_true", help="also write the session of the token to Redis")


def _add_explain(parser: ArgumentParser) -> None:
    parser.set_defaults(command="explain")
    add = parser.add_argument
    add("token", nargs="?", metavar="TOKEN", help="the token (default: standard input)")
    _add_config(parser)
    add("--offline", action="store_true", help="fetch no keys")
    add("--json", action="store_true", help="print the result as one JSON object")


def _add_sessions(parser: ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    user = "only sessions of this user"
    listing = _add(commands, "list", "list live sessions", SESSIONS_LIST)
    listing.add_argument("--user", metavar="SUBJECT", help=user)
    listing.add_argument(
        "--limit", type=positive, default=0, metavar="N", help="at most N sessions (default: all)"
    )
    listing.add_argument("--json", action="store_true", help="print one JSON object per line")
    show = _add(commands, "show", "show one session", SESSIONS_SHOW)
    show.add_argument("sid", metavar="SID", help="session id, as printed by `sessions list`")
    show.add_argument("--json", action="store_true", help="print the session as JSON")
    revoke = _add(commands, "revoke", "end sessions", SESSIONS_REVOKE)
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("--sid", metavar="SID", help="the session with this id")
    which.add_argument("--user", metavar="SUBJECT", help="all sessions of this user")
    which.add_argument(
        "--token", action="store_true", help="the session of the token on standard input"
    )
    which.add_argument("--all", action="store_true", help="every session of every user")
    which.add_argument("--jti", metavar="JTI", help="the token with this id; needs --issuer")
    before = "with --user: only sessions that began before this time"
    revoke.add_argument("--before", metavar="TIME", help=before)
    issuer = "revoke tokens of this issuer, whose session_mode is denylist, instead of sessions"
    revoke.add_argument("--issuer", metavar="ISSUER", help=issuer)
    count = _add(commands, "count", "count live sessions", "")
    count.add_argument("--user", metavar="SUBJECT", help=user)
    for name, each in (("list", listing), ("show", show), ("revoke", revoke), ("count", count)):
        each.set_defaults(command=f"sessions_{name}")
        _add_config(each)


def positive(text: str) -> int:
    """Read a whole number from 1. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdecimal() or int(text[:9]) == 0:
        raise ArgumentTypeError(f'expected a whole number from 1; got "{text}"')
    return int(text[:9])


def port(text: str) -> int:
    """Read a port number; 0 means any free port. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdecimal() or int(text[:6]) > 65535:
        raise ArgumentTypeError(f'expected a port 0-65535; got "{text}"')
    return int(text)
