"""The command line's shape and its help, which teaches by examples. Carries nothing out."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from typing import Any, Final

MAIN: Final = """\
examples:
  sidecar demo                            try it: users, an application, curl lines to copy
  sidecar check --config sidecar.toml     everything that is wrong with a configuration, at once
  sidecar run --config sidecar.toml       what a pod runs
  sidecar hash-password                   a password's hash, for the users file
  echo "$TOKEN" | sidecar token inspect   why a token is refused
  sidecar sessions list --user alice      who is logged in, and from where

Settings come from flags, the environment, the file and defaults, in this order; config/sidecar.toml
explains every one. Two secrets are all that has to be set:

  export JWT_SECRET=$(openssl rand -base64 48) REFRESH_SECRET=$(openssl rand -base64 48)

exit codes: 0 done; 1 not possible, or the answer is no; 2 wrong command or configuration
"""
RUN: Final = """\
examples:
  sidecar run --upstream http://127.0.0.1:3000
  sidecar run --config /etc/sidecar/sidecar.toml --log-level debug
  SESSION_STORE=local sidecar run         without Redis, for one replica
  TLS_CERT_FILE=tls.crt TLS_KEY_FILE=tls.key sidecar run      clients come by HTTPS

The configuration file and the files it names are read again when they change, and at SIGHUP; what
is wrong then is in the log, and nothing of it is used. Some settings wait for a restart, and the
log says which. SIGTERM and SIGINT end it cleanly: requests that are being served are finished
first.
"""
DEMO: Final = """\
The users are alice (password demo-alice) and admin (demo-admin). Sessions live in this process
alone, and the secrets are made anew at each start. Ctrl-C ends it.

examples:
  sidecar demo
  sidecar demo --port 5006 --admin-port 9106 --app-port 8081
"""
CHECK: Final = """\
Names every problem with its place, and exits with 2 when there is one. Nothing is started.

examples:
  sidecar check --config sidecar.toml
  sidecar check --config sidecar.toml --print-config      what holds, and which source said so
"""
HASH_PASSWORD: Final = """\
Asks for the password twice at a terminal, else reads one line from standard input. A password is
never an argument: every user of the machine can see those.

examples:
  sidecar hash-password
  printf %s "$PASSWORD" | sidecar hash-password

What it prints goes into the users file:

  [[user]]
  name = "alice"
  password_hash = "$argon2id$..."
  roles = ["user"]
"""
TOKEN: Final = """\
examples:
  sidecar token mint --sub alice --role user --ttl 5m
  echo "$TOKEN" | sidecar token inspect
"""
MINT: Final = """\
The token is signed with the configured key: JWT_SECRET, or jwt_private_key_file. With session_mode
"required" it also needs a session, which --store writes to Redis; without one it is refused.

examples:
  sidecar token mint --sub alice --role user --role admin --scope reports:read
  sidecar token mint --sub job-7 --ttl 12h --claim tenant=acme --claim level=3 --store
"""
INSPECT: Final = """\
Reads one token from standard input, with or without "Bearer " before it. Prints what is in it, and
whether the sidecar would accept it or why not; never the token itself. Exits with 1 when it would
be refused. Sessions are not looked up.

examples:
  echo "$TOKEN" | sidecar token inspect
  sidecar token inspect --config sidecar.toml < token.txt
"""

SESSIONS: Final = """\
These read the Redis that all pods share, a part at a time, and end sessions at every pod at once.

examples:
  sidecar sessions list --user alice
  sidecar sessions count
  sidecar sessions revoke --user alice
"""
SESSIONS_LIST: Final = """\
examples:
  sidecar sessions list --limit 20
  sidecar sessions list --user alice --json      one JSON object a line
"""
SESSIONS_SHOW: Final = """\
examples:
  sidecar sessions show 2hFvq0Nq3bQnZ8m4r1JpXw
"""
SESSIONS_REVOKE: Final = """\
Access token, refresh token and listing end together, everywhere. A token is read from standard
input and is never an argument: every user of the machine can see those.

examples:
  sidecar sessions revoke --sid 2hFvq0Nq3bQnZ8m4r1JpXw
  sidecar sessions revoke --user alice --before 2026-01-31T12:00:00Z
  echo "$TOKEN" | sidecar sessions revoke --token
  sidecar sessions revoke --issuer https://id.example.com --jti 7f0c52d1
  sidecar sessions revoke --issuer https://id.example.com --user alice --before 2026-01-31T12:00:00Z
"""


# Each is stored under its setting's name, the value unread.
SETTING_FLAGS: Final = (
    ("--listen", "listen", "ADDRESS", "where clients come in (default: 0.0.0.0:5005)"),
    ("--admin-listen", "admin_listen", "ADDRESS", "metrics and probes (default: 0.0.0.0:9105)"),
    ("--upstream", "upstream_url", "URL", "the application (default: http://127.0.0.1:8080)"),
    ("--log-level", "log_level", "LEVEL", "debug, info, warning or error (default: info)"),
)


def build_parser() -> ArgumentParser:
    """The parser; what it returns has the command's name, as a function's, in `command`."""
    parser = ArgumentParser(
        prog="sidecar",
        description="An auth sidecar: lets a request through only with a live session.",
        epilog=MAIN,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_settings(_add(commands, "run", "run the sidecar in front of an application", RUN))
    _add_ports(_add(commands, "demo", "run the sidecar in front of a demo application", DEMO))
    check = _add(commands, "check", "check the configuration", CHECK)
    _add_settings(check)
    check.add_argument("--print-config", action="store_true", help="print what holds, as TOML")
    _add(commands, "hash-password", "hash a password for the users file", HASH_PASSWORD)
    token = _add(commands, "token", "make a token, or look into one", TOKEN)
    tokens = token.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_mint(_add(tokens, "mint", "make an access token", MINT))
    _add_config(_add(tokens, "inspect", "say what is in a token and whether it holds", INSPECT))
    _add_sessions(_add(commands, "sessions", "list, show, count or end sessions", SESSIONS))
    _add(commands, "version", "print the version", "")
    return parser


class _Help(RawDescriptionHelpFormatter):
    """Leaves examples as they are written, and room for the longest command."""

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
        "--config", metavar="FILE", help="configuration file (default: what SIDECAR_CONFIG names)"
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
        about = f"{text} (default: {default}; 0: any free one)"
        parser.add_argument(flag, type=port, default=default, metavar="PORT", help=about)


def _add_mint(parser: ArgumentParser) -> None:
    _add_config(parser)
    add = parser.add_argument
    add("--sub", required=True, metavar="SUBJECT", help="whose token it is")
    add("--role", action="append", default=[], metavar="ROLE", help="a role; may be repeated")
    add("--scope", action="append", default=[], metavar="SCOPE", help="a scope; may be repeated")
    add("--ttl", metavar="TIME", help="how long it lasts: 5m, 12h (default: access_token_expiry)")
    claim = "any other claim; VALUE is JSON, else a text; may be repeated"
    add("--claim", action="append", default=[], metavar="NAME=VALUE", help=claim)
    add("--store", action="store_true", help="write the session it needs to Redis")


def _add_sessions(parser: ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    user = "only this user's"
    listing = _add(commands, "list", "print live sessions", SESSIONS_LIST)
    listing.add_argument("--user", metavar="SUBJECT", help=user)
    listing.add_argument("--limit", type=positive, default=0, metavar="N", help="N at most")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    show = _add(commands, "show", "print one session", SESSIONS_SHOW)
    show.add_argument("sid", metavar="SID", help="its id, as list prints it")
    show.add_argument("--json", action="store_true", help="as JSON")
    revoke = _add(commands, "revoke", "end sessions", SESSIONS_REVOKE)
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("--sid", metavar="SID", help="the session with this id")
    which.add_argument("--user", metavar="SUBJECT", help="all sessions of this user")
    which.add_argument(
        "--token", action="store_true", help="the session of the token on standard input"
    )
    which.add_argument("--jti", metavar="JTI", help="the token with this id, of --issuer")
    revoke.add_argument("--before", metavar="TIME", help="of the user, those begun before this")
    issuer = "whose tokens: one with session_mode = denylist (default: our own sessions)"
    revoke.add_argument("--issuer", metavar="ISSUER", help=issuer)
    count = _add(commands, "count", "print how many sessions are live", "")
    count.add_argument("--user", metavar="SUBJECT", help=user)
    for name, each in (("list", listing), ("show", show), ("revoke", revoke), ("count", count)):
        each.set_defaults(command=f"sessions_{name}")
        _add_config(each)


def positive(text: str) -> int:
    """A number of things."""
    if not text.isascii() or not text.isdecimal() or int(text[:9]) == 0:
        raise ArgumentTypeError(f'expected a whole number from 1; got "{text}"')
    return int(text[:9])


def port(text: str) -> int:
    """A port's number."""
    if not text.isascii() or not text.isdecimal() or int(text[:6]) > 65535:
        raise ArgumentTypeError(f'expected a port 0-65535; got "{text}"')
    return int(text)
