"""Rules for the text of the Dockerfile; test_image.py rehearses the build."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Final

import pytest

import sidecar
from tests.deploy.dockerfile import Instruction, parse, rest_of
from tests.deploy.manifests import ROOT

PREAMBLE, BUILD, FINAL = parse(ROOT / "Dockerfile")
INSTALLS: Final = [i.command() for i in BUILD if i.word == "RUN" and "install" in i.command()]


def test_hadolint_finds_nothing() -> None:
    """hadolint reports no problem in the file."""
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    command = [
        str(hadolint),
        "--no-color",
        "--failure-threshold",
        "style",
        str(ROOT / "Dockerfile"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (0, "")


def test_one_base_for_both_stages() -> None:
    """`--build-arg BASE=…` changes the base of both stages; its default is pinned by digest."""
    (base,) = rest_of(PREAMBLE, "ARG")
    assert re.fullmatch(r"BASE=python:3\.13\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)
    assert [rest_of(stage, "FROM") for stage in (BUILD, FINAL)] == [
        ["${BASE} AS build"],
        ["${BASE}"],
    ]


@pytest.mark.parametrize("word", ["RUN", "ENTRYPOINT", "CMD"])
def test_exec_form(word: str) -> None:
    """Every command uses the exec form, without a shell."""
    found = [i.command() for stage in (BUILD, FINAL) for i in stage if i.word == word]
    assert found
    assert not any(part in ("sh", "bash", "-c") for command in found for part in command[:2])


def test_what_it_runs() -> None:
    """The image runs `sidecar run` by default, stops on SIGTERM and exposes both ports."""
    assert [json.loads(rest) for rest in rest_of(FINAL, "ENTRYPOINT")] == [["sidecar"]]
    assert [json.loads(rest) for rest in rest_of(FINAL, "CMD")] == [["run"]]
    assert rest_of(FINAL, "STOPSIGNAL") == ["SIGTERM"]
    assert rest_of(FINAL, "EXPOSE") == ["5005 9105"]


def test_user_is_a_number_and_not_root() -> None:
    """The user is numeric, so that Kubernetes can check it, and not root."""
    assert rest_of(FINAL, "USER") == ["65532:65532"]
    assert not rest_of(FINAL, "RUN")


def test_nothing_is_fetched_but_by_hash() -> None:
    """Dependencies are installed by hash and the package offline; nothing else is fetched."""
    instructions = PREAMBLE + BUILD + FINAL
    assert not rest_of(instructions, "ADD")
    assert not any("://" in i.rest for i in instructions if i.word != "HEALTHCHECK")
    locked = [command for command in INSTALLS if "-r" in command]
    assert [command[-1] for command in locked] == ["requirements-build.lock", "requirements.lock"]
    assert all("--require-hashes" in command for command in locked)
    own = [i.command() for i in BUILD if i.word == "RUN" and "--no-index" in i.rest]
    assert len(own) == 2
    assert all("--no-deps" in command for command in own)


def test_only_the_build_stage_has_a_compiler() -> None:
    """The C compiler is installed in the build stage, which compiles the hot path by default."""
    (system,) = (command for command in INSTALLS if command[0] == "apt-get")
    assert system[-2:] == ["gcc", "libc6-dev"]
    assert rest_of(BUILD, "ARG") == ["SIDECAR_COMPILE=1"]
    assert rest_of(FINAL, "COPY") == ["--from=build /opt/venv /opt/venv"]


def test_no_bytecode_is_written_at_run_time() -> None:
    """Bytecode is compiled at build time and not checked later, so a read-only root is enough."""
    assert "PYTHONDONTWRITEBYTECODE=1" in shlex.split(rest_of(FINAL, "ENV")[0])
    compiled = [i.command() for i in BUILD if i.word == "RUN" and "compileall" in i.rest]
    assert compiled
    assert compiled[-1][-3:] == ["--invalidation-mode", "unchecked-hash", "/opt/venv/lib"]


def test_health_check_needs_no_other_program() -> None:
    """The health check runs Python, in exec form, and requests `/livez` on the admin port."""
    (check,) = rest_of(FINAL, "HEALTHCHECK")
    command = Instruction("CMD", check.partition(" CMD ")[2]).command()
    assert command[:2] == ["python", "-c"]
    assert "/livez" in command[2]
    assert "timeout=" in command[2]


def test_labels() -> None:
    """The OCI labels have the name, the license and the version of the package."""
    labels = dict(pair.split("=", 1) for pair in shlex.split(rest_of(FINAL, "LABEL")[0]))
    prefix = "org.opencontainers.image."
    assert labels[f"{prefix}version"] == sidecar.__version__
    assert labels[f"{prefix}title"] == "auth-sidecar"
    assert labels[f"{prefix}licenses"] == "Apache-2.0"


def test_the_context_is_what_is_copied() -> None:
    """The build context has everything that is copied, and no secrets, history or tests."""
    copied = {
        source.removeprefix("./")
        for rest in rest_of(BUILD, "COPY")
        for source in rest.split()[:-1]
        if not source.startswith("--")
    }
    for source in copied:
        assert (ROOT / source).exists()
        assert _in_context(source)
    for unwanted in (".env", ".git", "config", "key.pem", "sidecar/__pycache__", "tests"):
        assert not _in_context(unwanted)


def _in_context(name: str) -> bool:
    inside = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and line[0] != "#" and fnmatch.fnmatch(name, pattern.replace("**/", "*/")):
            inside = line[0] == "!"
    return inside
