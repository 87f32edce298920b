"""The command `sidecar`: its output and its exit codes."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import socket
import subprocess
import sys
import tomllib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import shtab

import sidecar
from sidecar.api.passwords import verify
from sidecar.cli import main
from sidecar.cli.parser import COMMANDS as COMMANDS_OF_PARSER
from sidecar.cli.parser import SETTING_FLAGS, SHELLS, build_parser
from sidecar.settings.model import Settings, kinds_of
from sidecar.settings.sources import FLAGS
from tests.cli.conftest import SECRETS

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
# As random as those that `openssl rand -base64 48` makes.
RANDOM = {
    "JWT_SECRET": "h1JcM5O0jVb8mYxq2T7uWn4ZrKs9Pd3LgEaQiXf6vRyBtUoC8wNkHpDzS0eGlMj1",
    "REFRESH_SECRET": "Zk4rX8eVq1LwTn7Bc0YhJm3PsGd5UoFa9RiQy2EvKxWtMz6NbCjHpDlS8uOgI7fA",
}
COMMANDS = ("run", "demo", "check", "hash-password", "token", "sessions", "completion", "version")


def command(
    *arguments: str, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, with only PATH of this process's environment."""
    return subprocess.run(
        [sys.executable, "-m", "sidecar", *arguments],
        input=stdin,
        env={"PATH": os.environ["PATH"]} | (env or {}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Provide these bytes on standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))


# ── Help and arguments ──


@pytest.mark.parametrize(
    "arguments",
    [[], *([name] for name in COMMANDS), ["token", "mint"], ["token", "inspect"]],
    ids=lambda arguments: " ".join(arguments) or "sidecar",
)
def test_help_teaches_by_examples(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The help of every command has an example to copy."""
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: sidecar")
    assert arguments == ["version"] or "examples:\n  " in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_help_of_run_tells_of_reloads_and_tls(capsys: pytest.CaptureFixture[str]) -> None:
    """The help of `run` explains reloads, signals and TLS."""
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = capsys.readouterr().out
    for word in ("SIGHUP", "SIGTERM", "reloaded when they change", "TLS_CERT_FILE"):
        assert word in text


def test_every_example_of_the_help_can_be_parsed(capsys: pytest.CaptureFixture[str]) -> None:
    """The parser accepts every example in the help."""
    examples = set()
    for arguments in ([], *([name] for name in COMMANDS), ["token", "mint"], ["token", "inspect"]):
        with pytest.raises(SystemExit):
            main([*arguments, "--help"])
        shown = capsys.readouterr().out.partition("examples:\n")[2]
        examples |= set(
            re.findall(r"(?m)^  [^\n]*?\bsidecar ([a-z][^\n<]*?)(?:  .*| [<>].*|\).*)?$", shown)
        )
    assert len(examples) > 10
    for example in examples:
        assert build_parser().parse_args(example.split()).command


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param([], "required: COMMAND", id="nothing"),
        pytest.param(["token"], "required: COMMAND", id="half"),
        pytest.param(["run", "--lis", ":1"], "unrecognized arguments: --lis", id="abbreviated"),
        pytest.param(["demo", "--port", "x"], 'expected a port 0-65535; got "x"', id="port-text"),
        pytest.param(["demo", "--port", "65536"], "expected a port 0-65535", id="port-large"),
        pytest.param(["demo", "--port", "²"], "expected a port 0-65535", id="port-digit"),
        pytest.param(["hash-password", "hunter2"], "unrecognized arguments", id="password"),
        pytest.param(["token", "mint"], "required: --sub", id="no-subject"),
    ],
)
def test_a_wrong_command_exits_with_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error is printed on standard error, after the usage."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert expected in capsys.readouterr().err


def test_the_flags_are_those_that_problems_name() -> None:
    """Problems name flags that exist."""
    assert {name: flag for flag, name, _, _ in SETTING_FLAGS} == FLAGS


def test_help_tells_the_real_defaults() -> None:
    """The defaults in the help are those of the settings."""
    defaults = {
        name: str(kinds_of(Settings)[name].show(Settings.__struct_defaults__[position]))
        for position, name in enumerate(_optional_fields())
        if name in FLAGS
    }
    for _, name, _, about in SETTING_FLAGS:
        assert f"(default: {defaults[name]})" in about


def _optional_fields() -> Sequence[str]:
    """Return the fields that have a default, in the order of `__struct_defaults__`."""
    return Settings.__struct_fields__


# ── version ──


def test_version_is_fast_and_loads_no_server() -> None:
    """`sidecar version` imports only the parser: no settings, event loop or cryptography."""
    code = (
        "import sys; from sidecar.cli import main; code = main(['version']);"
        "print(sorted({'asyncio', 'aiohttp', 'uvloop', 'redis', 'jwt', 'msgspec'}"
        " & set(sys.modules)));"
        "sys.exit(code)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == f"sidecar {sidecar.__version__} (interpreted)\n[]\n"


def test_the_module_is_the_command() -> None:
    """`python -m sidecar` does the same as the installed command."""
    found = command("version")
    assert (found.returncode, found.stdout) == (0, f"sidecar {sidecar.__version__} (interpreted)\n")


# ── check ──


def test_check_says_that_all_is_well(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A valid configuration without warnings gives one line and exit code 0, also if strict."""
    environment.setenv("SESSION_STORE", "local")
    environment.setenv("LOGIN_URL", "https://login.example/")
    for name, value in RANDOM.items():
        environment.setenv(name, value)
    for arguments in (["check"], ["check", "--strict"]):
        assert main(arguments) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        assert printed.out == (
            "no problems: 0.0.0.0:5005 to http://127.0.0.1:8080, 0 routes, "
            "sessions in local memory\n"
        )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["check"], 0, id="plain"),
        pytest.param(["check", "--print-config"], 0, id="print"),
        pytest.param(["check", "--strict"], 1, id="strict"),
        pytest.param(["check", "--strict", "--print-config"], 1, id="strict-print"),
    ],
)
def test_check_warns_of_what_lets_nobody_in(arguments: list[str], code: int) -> None:
    """Warnings go to standard error; they change the exit code only if strict."""
    seed = {"REDIS_HOTS": "redis", "REDIS_PORT": "tcp://10.0.0.1:6379", **RANDOM}
    found = command(*arguments, env=seed)
    assert found.returncode == code
    assert [line.partition(", because")[0] for line in found.stderr.splitlines()] == [
        "warning: environment REDIS_PORT: is ignored",
        "warning: environment REDIS_HOTS: is ignored",
        "warning: users_file: nobody can log in",
    ]
    assert "rename it to REDIS_HOST if you meant that" in found.stderr
    if "--print-config" in arguments:
        assert tomllib.loads(found.stdout)["redis_host"] == "localhost"
    else:
        assert found.stdout.startswith("no problems, 3 warnings: ")
    assert not [value for value in RANDOM.values() if value in found.stderr]


def test_check_warns_of_the_production_overlay() -> None:
    """As delivered, it names nobody who may log in, nor how the application treats case."""
    file = ROOT / "k8s" / "overlays" / "production" / "sidecar.toml"
    found = command("check", "--config", str(file), env=RANDOM)
    assert found.returncode == 0
    users, route = found.stderr.splitlines()
    assert users.startswith("warning: users_file: nobody can log in, because ")
    assert route.startswith('warning: route /admin/*: "/ADMIN" belongs to route default')


def test_check_refuses_a_route_that_escapes_could_evade(tmp_path: Path) -> None:
    """Both routes and a path are named."""
    file = tmp_path / "sidecar.toml"
    file.write_text(
        '[[route]]\nname = "admin"\npath = "/api/admin/*"\nroles = ["admin"]\n'
        '[[route]]\nname = "api"\npath = "/api/*"\npath_escapes = "pass"\n'
    )
    found = command("check", "--config", str(file), env=RANDOM)
    assert found.returncode == 2
    assert found.stderr == (
        'route /api/*: expected path_escapes = "reject" on route api, or no stricter route below '
        'it: an application that decodes "/api/admin%2Fx" serves what route admin protects\n'
    )


def test_check_does_not_print_a_secret_that_is_a_text() -> None:
    """The warning names the setting only."""
    env = {**SECRETS, "LOGIN_URL": "https://login.example/"}
    found = command("check", env=env)
    assert [line.split(":")[1] for line in found.stderr.splitlines()] == [
        " jwt_secret",
        " refresh_secret",
    ]
    assert not [value for value in SECRETS.values() if value in found.stderr + found.stdout]


def test_a_problem_is_not_hidden_by_strict() -> None:
    """Code 2 still means that the sidecar would not start."""
    assert command("check", "--strict", env={**RANDOM, "REDIS_PORT": "x"}).returncode == 2


def test_check_of_the_shipped_file(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The annotated file is valid, also with the demo's users."""
    environment.setenv("USERS_FILE", str(ROOT / "config" / "users.toml"))
    assert main(["check", "--config", str(ROOT / "config" / "sidecar.toml")]) == 0
    assert "sessions in Redis" in capsys.readouterr().out


def test_check_prints_what_holds(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output is TOML with origins, includes the flags, and masks secrets."""
    environment.setenv("REDIS_PORT", "7000")
    assert main(["check", "--print-config", "--listen", "127.0.0.1:1"]) == 0
    text = capsys.readouterr().out
    assert tomllib.loads(text)["redis_port"] == 7000
    assert 'listen = "127.0.0.1:1"  # flag --listen' in text
    assert not [value for value in SECRETS.values() if value in text]


def test_check_names_every_problem_on_standard_error() -> None:
    """Problems give exit code 2 and one line each on standard error."""
    found = command(
        "check", "--log-level", "loud", env={"JWT_SECRET": "hunter2", "REDIS_PORT": "x"}
    )
    assert found.returncode == 2
    assert found.stdout == ""
    assert len(found.stderr.splitlines()) == 4
    for place in ("flag --log-level: ", "environment REDIS_PORT: ", "environment JWT_SECRET: "):
        assert f"{place}expected " in found.stderr
    assert "openssl rand -base64 48" in found.stderr
    assert "hunter2" not in found.stderr


@pytest.mark.parametrize("name", ["check", "run"])
def test_a_bad_users_file_is_a_problem_of_the_configuration(
    name: str, environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files that the configuration names are checked before anything is started."""
    users = tmp_path / "users.toml"
    users.write_text('[[user]]\nname = "alice"\npassword_hash = "demo-alice"\n')
    environment.setenv("USERS_FILE", str(users))
    assert main([name]) == 2
    assert "password_hash" in capsys.readouterr().err


# ── hash-password ──


def test_a_password_from_a_pipe_is_hashed() -> None:
    """A password on standard input gives one line with its hash."""
    found = command("hash-password", stdin="pässword with spaces \n")
    assert found.returncode == 0
    assert found.stdout.startswith("$argon2id$")
    assert verify(found.stdout.strip(), "pässword with spaces ")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", "expected one line with a password on standard input", id="nothing"),
        pytest.param(b"\n", "expected one line with a password on standard input", id="empty"),
        pytest.param(b"a\nb\n", "expected one line with a password", id="two-lines"),
        pytest.param(b"\xff\n", "expected a password in UTF-8", id="not-utf-8"),
        pytest.param(b"x" * 70000, "expected a password of at most 65536 bytes", id="large"),
    ],
)
def test_what_is_no_password_is_refused(
    data: bytes,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Invalid input gives exit code 1 and a message that does not repeat it."""
    feed(monkeypatch, data)
    assert main(["hash-password"]) == 1
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith(f"sidecar: {expected}")


@pytest.mark.parametrize(
    ("answers", "code", "expected"),
    [
        pytest.param(("hunter2", "hunter2"), 0, "$argon2id$", id="same"),
        pytest.param(("hunter2", "hunter3"), 1, "expected the same password twice", id="different"),
        pytest.param(("",), 1, "expected a password; it is empty", id="empty"),
    ],
)
def test_at_a_terminal_a_password_is_asked_for_twice(
    answers: Sequence[str], code: int, expected: str
) -> None:
    """The password is read twice without echo, and both must be equal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "sidecar", "hash-password"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = ""
        for answer, prompt in zip(answers, ("Password: ", "Password again: "), strict=False):
            while not shown.endswith(prompt):
                shown += os.read(ours, 1024).decode()
            os.write(ours, f"{answer}\n".encode())
        shown += read_rest(ours)
        assert process.wait(10) == code
    assert expected in shown
    assert not any(answer in shown for answer in answers if answer)
    os.close(ours)


def read_rest(terminal: int) -> str:
    """Read everything until the other side is closed."""
    text = ""
    while True:
        try:
            text += os.read(terminal, 1024).decode()
        except OSError:  # on Linux: the other side is closed
            return text


# ── run ──


def test_run_says_which_port_is_taken(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command exits with 1, and names the flag for another port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment.setenv("SESSION_STORE", "local")
        environment.setenv("ADMIN_LISTEN", "127.0.0.1:0")
        assert main(["run", "--listen", f"127.0.0.1:{port}"]) == 1
    assert capsys.readouterr().err == (
        f"sidecar: port {port} is taken (another program listens on 127.0.0.1:{port}); "
        "choose another with --listen\n"
    )


def test_run_says_what_else_stands_against_listening(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An address of another machine, or an unknown name, is reported."""
    environment.setenv("SESSION_STORE", "local")
    arguments = ["--listen", "192.0.2.1:0", "--admin-listen", "absent.invalid:0"]
    assert main(["run", *arguments]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("sidecar: cannot listen on 192.0.2.1:0 (")
    assert first.endswith("; see --listen")
    assert second.startswith("cannot listen on absent.invalid:0 (")
    assert second.endswith("; see --admin-listen")


def test_demo_needs_three_ports(capsys: pytest.CaptureFixture[str]) -> None:
    """Repeating a port gives exit code 2."""
    assert main(["demo", "--port", "8080"]) == 2
    assert (
        capsys.readouterr().err == "sidecar: expected three different ports; got 8080, 9105, 8080\n"
    )


# ── Mistyped commands, completion, JSON ──


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["chek"], 'unknown command "chek"; did you mean "check"?', id="one-letter"),
        pytest.param(["hash_password"], 'did you mean "hash-password"?', id="underscore"),
        pytest.param(["token", "mnt"], 'unknown command "token mnt"; did you mean "mint"?', id="2"),
        pytest.param(["xyzzy"], "expected one of run, demo, check,", id="nothing-near"),
    ],
)
def test_a_mistyped_command(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the command that was probably meant, or else all of them."""
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_the_table_of_commands_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command in the help is known to the check for mistyped ones, and the reverse."""
    for above, names in COMMANDS_OF_PARSER.items():
        with pytest.raises(SystemExit):
            main([*above.split(), "--help"])
        found = re.findall(r"(?m)^    ([a-z-]+)(?: |$)", capsys.readouterr().out)
        assert tuple(found) == names


def test_version_as_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints what `version` prints."""
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"sidecar {sidecar.__version__} (interpreted)\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_completion_is_that_of_the_parser(shell: str) -> None:
    """The script in the package is what `scripts/completions` makes from the parser now."""
    made = shtab.complete(build_parser(), shell)
    text = "\n".join(line.rstrip() for line in made.splitlines()).rstrip() + "\n"
    assert command("completion", shell).stdout == text, "run scripts/completions"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        pytest.param(["che"], "check", id="command"),
        pytest.param(["sessions", "re"], "revoke", id="command-below"),
        pytest.param(["check", "--st"], "--strict", id="flag"),
    ],
)
def test_bash_completes(words: list[str], offered: str) -> None:
    """bash offers the only word that fits."""
    line = " ".join(["sidecar", *words])
    script = f"""
        source sidecar/cli/completion.bash
        COMP_WORDS=({line}) COMP_CWORD={len(words)} COMP_LINE='{line}'
        $(complete -p sidecar | sed 's/.*-F \\([^ ]*\\).*/\\1/') sidecar '{words[-1]}'
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=ROOT, check=True, timeout=30
    )
    assert done.stdout.strip() == offered


def test_check_as_json(
    environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Problems and warnings are one JSON object on standard output, with their places."""
    assert main(["check", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["usable"] is True
    assert found["problems"] == []
    assert all(each.keys() == {"where", "message", "remedy"} for each in found["warnings"])
    assert any("nobody can log in" in each["message"] for each in found["warnings"])
    environment.setenv("LISTEN", "nowhere")
    assert main(["check", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["usable"] is False
    assert [each["where"] for each in found["problems"]] == ["environment LISTEN"]


def test_inspect_as_json(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The contents, the times in ISO 8601 and the verdict are one JSON object."""
    assert main(["token", "mint", "--sub", "alice"]) == 0
    feed(environment, capsys.readouterr().out.encode())
    assert main(["token", "inspect", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["header"]["typ"] == "at+jwt"
    assert found["claims"]["sub"] == "alice"
    assert found["accepted"] is True
    assert datetime.fromisoformat(found["times"]["exp"]).timestamp() == found["claims"]["exp"]
    feed(environment, b"not.a.token")
    assert main(["token", "inspect", "--json"]) == 1
    refused = json.loads(capsys.readouterr().out)
    assert (refused["header"], refused["claims"], refused["accepted"]) == (None, None, False)


CONTEXTS: Final = """
import gc, ssl
import sidecar.cli.serving
made = [each for each in gc.get_objects() if isinstance(each, ssl.SSLContext)]
print(len(made), sum(each.cert_store_stats()["x509_ca"] for each in made))
print(ssl.create_default_context().cert_store_stats()["x509_ca"])
"""


def test_no_root_certificates_are_loaded_in_vain() -> None:
    """The contexts that libraries make when they are imported have none; later ones have them.

    If libraries make no contexts any more, `sidecar.cli.spared_roots` is not needed any more.
    """
    command = [sys.executable, "-c", CONTEXTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    made, loaded, later = map(int, done.stdout.split())
    assert made > 0
    assert loaded == 0
    assert later > 0
