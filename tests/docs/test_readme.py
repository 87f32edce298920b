"""The front page's curl lines do what it says they do, against the real demo."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.demo.stack import guide
from tests.deploy.manifests import ROOT
from tests.docs.pages import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ADDRESS: Final = "http://127.0.0.1:5005"
(LINES,) = (block.text for block in blocks(ROOT / "README.md") if block.language == "bash")

pytestmark = pytest.mark.needs("bash", "curl")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The demo, on ports that are free; where it says it is."""
    command = ["demo", "--port", "0", "--admin-port", "0", "--app-port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "sidecar", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            found = (re.search(r"(http://\S+)/ +for a browser", line) for line in process.stdout)
            yield next(match[1] for match in found if match)
        finally:
            process.terminate()
            process.communicate(timeout=20)


def test_the_lines_do_what_they_say(address: str, tmp_path: Path) -> None:
    """Each curl line's answer has the status that its comment gives."""
    expected = re.findall(r"(?m)^curl .*# (\d{3})", LINES)
    script = f"set -euo pipefail\n{LINES.replace(ADDRESS, address)}"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"(?m)^HTTP/1\.1 (\d{3})", done.stdout) == expected
    assert "Hello, alice" in done.stdout


def test_the_lines_are_those_of_the_demo() -> None:
    """What the demo prints and what the front page shows are the same commands."""

    def commands(text: str) -> list[str]:
        joined = re.sub(r"\s*\\\n\s*", " ", text)
        lines = (re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines())
        return [line for line in lines if line.startswith(("curl ", "TOKEN="))]

    assert commands(LINES) == commands(guide(ADDRESS, "http://127.0.0.1:9105"))
