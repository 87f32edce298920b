"""The `[cors]` table: what it may contain, and how it is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.errors import ConfigError
from sidecar.settings import CorsSettings, load, print_config, settings_from

if TYPE_CHECKING:
    from pathlib import Path

SECRETS = {
    "JWT_SECRET": "access-secret-0123456789abcdefghijklmnop",
    "REFRESH_SECRET": "refresh-secret-0123456789abcdefghijklmn",
}


def read(folder: Path, text: str) -> CorsSettings | None:
    """Return the table of a file with this text."""
    file = folder / "sidecar.toml"
    file.write_text(text, "utf-8")
    return settings_from(env=SECRETS, file=file).cors


def problems(folder: Path, text: str) -> list[str]:
    """Return what is wrong with a file with this text, without the folder of the file."""
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return [str(each).replace(f"{folder}/", "") for each in caught.value.problems]


def test_without_a_table(tmp_path: Path) -> None:
    """By default no other origin may do anything."""
    assert read(tmp_path, "") is None


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("HTTPS://App.Example.com:443/", "https://app.example.com"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://*.Example.com", "https://*.example.com"),
        ("https://*.example.com:8443", "https://*.example.com:8443"),
        ("*", "*"),
    ],
)
def test_origins(tmp_path: Path, written: str, read_as: str) -> None:
    """An origin becomes what browsers send: lower case, without a default port."""
    cors = read(tmp_path, f'[cors]\norigins = ["{written}"]')
    assert cors == CorsSettings(origins=(read_as,))


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "", "app.example.com", "https://app.example.com/path", "https://a.example?x"),
        *("https://*", "https://*.com", "https://*.192.0.2.7", "https://a.*.example.com"),
        *("https://*.*.example.com", "https://*app.example.com", "*.example.com", "https://user@a"),
        *("ftp://a.example", "https://a.example:0", "https://bücher.example", "https://*.[::1]"),
        "https://a.example, https://b.example",
    ],
)
def test_what_is_no_origin(tmp_path: Path, origin: str) -> None:
    """Everything that no browser would send, or that would allow too much, is a problem."""
    (problem,) = problems(tmp_path, f'[cors]\norigins = ["{origin}"]')
    assert problem.startswith("sidecar.toml: cors.origins: expected ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("cors = 1", "cors: expected a table of keys such as origins; got 1", id="1"),
        pytest.param(
            "[[cors]]\norigins = []", "cors: expected a table of keys such as origins", id="list"
        ),
        pytest.param(
            "[cors]\ncredentials = true", "cors.origins: expected a list of origins", id="missing"
        ),
        pytest.param("[cors]\norigins = []", "cors.origins: expected an origin", id="empty"),
        pytest.param(
            '[cors]\norigins = ["https://a.example", "*"]\ncredentials = true',
            'cors.origins: expected each origin by name instead of "*", because credentials is',
            id="everybody-with-credentials",
        ),
        pytest.param(
            '[cors]\norigins = ["*"]\nheaders = ["*"]',
            "cors.headers: expected a list of names of headers",
            id="all-headers",
        ),
        pytest.param(
            '[cors]\norigins = ["*"]\nheaders = ["X-A\\r\\nX-B: c"]',
            "cors.headers: expected a list of names of headers",
            id="header-with-line-break",
        ),
        pytest.param(
            '[cors]\norigins = ["*"]\nmax_age = "2d"', "cors.max_age: expected", id="too-long"
        ),
        pytest.param(
            '[cors]\norigins = ["*"]\norigin = "x"',
            "cors.origin: unknown key; did you mean origins?",
            id="unknown-key",
        ),
    ],
)
def test_a_bad_table(tmp_path: Path, text: str, problem: str) -> None:
    """Every mistake is a problem with its place."""
    (found,) = problems(tmp_path, text)
    assert found.startswith(f"sidecar.toml: {problem}")


def test_it_is_printed_as_it_is_read(tmp_path: Path) -> None:
    """The printed configuration has the table, and means the same."""
    text = (
        '[cors]\norigins = ["https://a.example", "https://*.b.example"]\ncredentials = true\n'
        'headers = ["X-A"]\nmax_age = "1h"\n'
    )
    before = read(tmp_path, text)
    file = tmp_path / "sidecar.toml"
    loaded = load(env=SECRETS, file=file)
    printed = print_config(loaded.settings, loaded.origins)
    assert text in printed
    assert read(tmp_path, printed) == before
