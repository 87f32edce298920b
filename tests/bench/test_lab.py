"""Configuration templates, the tokens of scenarios, and program versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jwt
import pytest

from bench.children import Children, StartError
from bench.lab import AUDIENCE, ISSUER, TEMPLATES, Lab, filled
from bench.machine import cpu_model, version_in
from bench.scenarios import SCENARIOS, Credential, Scenario, spoiled

if TYPE_CHECKING:
    from pathlib import Path


def test_marks_are_replaced() -> None:
    """Each mark is replaced by its value, and other characters are kept."""
    assert filled("listen @PORT@; set $x @NAME@;", {"PORT": "1", "NAME": "n"}) == (
        "listen 1; set $x n;"
    )


def test_unset_mark_is_an_error() -> None:
    """A mark without a value is an error."""
    with pytest.raises(StartError, match="PORT"):
        filled("listen @PORT@;", {})


@pytest.mark.parametrize("name", sorted(path.name for path in TEMPLATES.iterdir()))
def test_every_template_can_be_filled(name: str, tmp_path: Path) -> None:
    """The suite has a value for every mark in every template."""
    names = ["PORT", "NAME", "SESSION", "ADMIN", "STORE", "REDIS_LINE", "DRAIN", "SESSIONS"]
    names += ["FIRST", "FIRST_ADMIN", "SECOND", "SECOND_ADMIN", "APP"]
    own = dict.fromkeys(names, "x")
    path = Lab(Children(tmp_path)).fill(name, "filled", own)
    assert "@" not in path.read_text().replace("@type", "")


def test_minted_token_is_what_the_peers_check(tmp_path: Path) -> None:
    """Minted tokens have the issuer, audience and type of the sidecar's own tokens."""
    lab = Lab(Children(tmp_path))
    token = lab.mint()
    claims = jwt.decode(token, lab.secret, algorithms=["HS256"], issuer=ISSUER, audience=AUDIENCE)
    assert claims["sub"] == "alice"
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"


def test_spoiled_token_differs_only_in_its_signature(tmp_path: Path) -> None:
    """A spoiled token has the same length and claims but an invalid signature."""
    lab = Lab(Children(tmp_path))
    token = lab.mint()
    bad = spoiled(token)
    assert len(bad) == len(token)
    assert bad.rpartition(".")[0] == token.rpartition(".")[0]
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(bad, lab.secret, algorithms=["HS256"], audience=AUDIENCE)


@pytest.mark.parametrize(
    ("credential", "first"),
    [
        pytest.param(Credential.GOOD, "Authorization: Bearer a.b.CDEF", id="good"),
        pytest.param(Credential.BAD, "Authorization: Bearer a.b.ADEF", id="bad"),
        pytest.param(Credential.NONE, "X: y", id="none"),
    ],
)
def test_scenario_sends_its_credential(credential: Credential, first: str) -> None:
    """The first header has the valid token or the spoiled one, or there is no credential."""
    scenario = Scenario("x", "x", credential=credential, headers=("X: y",))
    assert scenario.header_lines("a.b.CDEF")[0] == first


def test_browser_scenario_sends_fifteen_headers() -> None:
    """Including Host, which wrk adds, the browser scenario sends fifteen headers."""
    browser = next(scenario for scenario in SCENARIOS if scenario.name == "browser")
    assert len(browser.header_lines("a.b.c")) + 1 == 15


@pytest.mark.parametrize(
    ("text", "version"),
    [
        pytest.param("nginx version: nginx/1.22.1\n", "1.22.1", id="nginx"),
        pytest.param(
            "HAProxy version 2.6.12-1+deb12u4 2026/10/17", "2.6.12-1+deb12u4", id="haproxy"
        ),
        pytest.param("wrk debian/4.1.0-3+b2 [epoll] Copyright", "4.1.0-3+b2", id="wrk"),
        pytest.param("", "unknown", id="silent"),
    ],
)
def test_version_is_found_in_what_a_program_says(text: str, version: str) -> None:
    """The version is found in the output of every program, and is "unknown" without output."""
    assert version_in(text) == version


def test_cpu_model_is_the_first_processors() -> None:
    """The CPU model is the first model name in /proc/cpuinfo."""
    assert cpu_model("processor\t: 0\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\n") == "AMD EPYC"
