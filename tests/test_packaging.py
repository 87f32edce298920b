"""The lock files and the wheel: pinned by hash, without an index, and complete."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parent.parent
LOCKS: Final = (
    "requirements.lock",
    "requirements-build.lock",
    "requirements-dev.lock",
    "requirements-fuzz.lock",
)

every_lock = pytest.mark.parametrize("lock", LOCKS)


def project() -> dict[str, Any]:
    """Return the contents of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def pins(lock: str) -> dict[str, str]:
    """Return the pinned versions by canonical name."""
    found = re.findall(r"(?m)^([\w.-]+)(?:\[[\w,]+\])?==(\S+)", (ROOT / lock).read_text("utf-8"))
    return {canonicalize_name(name): version for name, version in found}


@every_lock
def test_a_lock_file_names_no_host(lock: str) -> None:
    """A lock file names no package index; the installation chooses one."""
    text = (ROOT / lock).read_text("utf-8")
    assert not re.search(r"://|--(?:extra-)?index|--find-links|--trusted|(?m:^\s*-[if] )", text)


@every_lock
def test_every_pin_has_hashes(lock: str) -> None:
    """Every entry has a hash, because otherwise any file of that version would be accepted."""
    entries = re.split(r"(?m)^(?=\w)", (ROOT / lock).read_text("utf-8"))[1:]
    assert len(entries) == len(pins(lock))
    assert [entry for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)] == []


@pytest.mark.parametrize(
    ("wanted", "lock"),
    [
        pytest.param(lambda p: p["project"]["dependencies"], "requirements.lock", id="run"),
        pytest.param(lambda p: p["project"]["dependencies"], "requirements-dev.lock", id="in dev"),
        pytest.param(lambda p: p["dependency-groups"]["dev"], "requirements-dev.lock", id="dev"),
        pytest.param(
            lambda p: p["dependency-groups"]["build"], "requirements-build.lock", id="build"
        ),
        pytest.param(lambda p: p["dependency-groups"]["fuzz"], "requirements-fuzz.lock", id="fuzz"),
        pytest.param(
            lambda p: p["build-system"]["requires"], "requirements-build.lock", id="pep517"
        ),
    ],
)
def test_the_lock_files_are_those_of_the_project(wanted: Any, lock: str) -> None:
    """Each requirement is pinned to an allowed version: `make lock` was run after a change."""
    pinned = pins(lock)
    for text in wanted(project()):
        requirement = Requirement(text)
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_lock_files_agree() -> None:
    """Tests and production use the same versions."""
    run, dev = pins("requirements.lock"), pins("requirements-dev.lock")
    assert run == {name: dev[name] for name in run}


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    """The wheel has every file of the package, including templates, and nothing else."""
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "sidecar", source / "sidecar", ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    offline = ("--no-index", "--no-deps", "--no-build-isolation")
    subprocess.run(
        [*pip, "wheel", *offline, "--wheel-dir", tmp_path, source], check=True, cwd=tmp_path
    )
    (wheel,) = tmp_path.glob("auth_sidecar-*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {
        str(path.relative_to(source)) for path in source.glob("sidecar/**/*") if path.is_file()
    }
    assert packed == files
