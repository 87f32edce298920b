"""Files that contributors' tools read: the commit hooks and the editor settings."""

from __future__ import annotations

import re
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent
HOOKS: Final = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
SUFFIXES: Final = {".css", ".html", ".json", ".md", ".py", ".toml", ".yaml", ".yml"}


def editor_settings() -> ConfigParser:
    """Return the sections of `.editorconfig`; keys before the first are under `[preamble]`."""
    parser = ConfigParser(interpolation=None)
    parser.read_string("[preamble]\n" + (ROOT / ".editorconfig").read_text("utf-8"))
    return parser


def text_files() -> Iterator[Path]:
    """Yield every text file of the repository that people edit."""
    for folder in ("bench", "config", "docs", "k8s", "sidecar", "tests"):
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES)
    yield from (path for path in ROOT.iterdir() if path.suffix in SUFFIXES)


@pytest.mark.parametrize("hook", HOOKS["repos"][0]["hooks"], ids=lambda hook: hook["id"])
def test_a_hook_calls_a_target_of_the_makefile(hook: dict[str, Any]) -> None:
    """A commit hook runs an existing target of `make`, once for all files."""
    program, target = hook["entry"].split()
    assert program == "make"
    assert re.search(rf"(?m)^{re.escape(target)}:", (ROOT / "Makefile").read_text("utf-8"))
    assert hook["language"] == "system"
    assert hook["pass_filenames"] is False
    assert re.search(hook["files"], "sidecar/auth/gate.py")
    assert hook["name"].endswith(f"(make {target})")


def test_the_hooks_come_from_this_repository() -> None:
    """Installing the hooks downloads nothing."""
    assert [repository["repo"] for repository in HOOKS["repos"]] == ["local"]
    assert {hook["id"] for hook in HOOKS["repos"][0]["hooks"]} == {"lint", "types"}


def test_editors_get_the_limits_of_the_linter() -> None:
    """`.editorconfig` has the line length of the linter."""
    settings = editor_settings()
    assert settings["preamble"]["root"] == "true"
    length = re.search(r"(?m)^line-length = (\d+)$", (ROOT / "pyproject.toml").read_text("utf-8"))
    assert length is not None
    assert settings["*.py"]["max_line_length"] == length[1]


def test_files_are_as_editors_are_told_to_write_them() -> None:
    """Files are UTF-8 with line feeds, a final one, no trailing white space and no tabs."""
    files = [path for path in text_files() if path.stat().st_size]
    assert len(files) > 300
    for path in files:
        text = path.read_bytes().decode("utf-8")
        assert text.endswith("\n"), path
        assert "\r" not in text, path
        assert not re.search(r"(?m)[ \t]+$|^ *\t", text), path


def test_an_environment_behind_a_link_is_left_alone(tmp_path: Path) -> None:
    """`make` does not empty an environment that the name of the new one is only a link to."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept").touch()
    (tmp_path / "venv").symlink_to(other)
    done = subprocess.run(
        [ROOT / "scripts/make-venv", tmp_path / "venv"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "remove the link" in done.stderr) == (1, True)
    assert (other / "kept").exists()
