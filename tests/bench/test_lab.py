"""Configuration templates, and program versions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from bench import bursts
from bench.children import Children, StartError
from bench.lab import TEMPLATES, Lab, chosen_cpus, filled
from bench.machine import cpu_model, version_in
from bench.scenarios import SCENARIOS

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
    names = ["PORT", "NAME", "SESSION", "ADMIN", "STORE", "OPTIONS", "TABLES", "DRAIN", "SESSIONS"]
    names += ["FIRST", "FIRST_ADMIN", "SECOND", "SECOND_ADMIN", "APP", "USERS", "TLS", "SCHEME"]
    names += ["KEY", "KEYS", "ISSUER", "ALGORITHM", "CACHE"]
    own = dict.fromkeys(names, "x")
    path = Lab(Children(tmp_path)).fill(name, "filled", own)
    assert "@" not in path.read_text().replace("@type", "")


def test_browser_scenario_sends_fifteen_headers() -> None:
    """Including Host, which wrk adds, the browser scenario sends fifteen headers."""
    browser = next(scenario for scenario in SCENARIOS if scenario.name == "browser")
    assert len(bursts.replayed_lines(browser, "a.b.c")) + 1 == 15


@pytest.mark.parametrize(
    ("cpus", "chosen"),
    [
        pytest.param({3}, (None, None, None), id="one"),
        pytest.param({3, 1}, (1, 3, 3), id="two"),
        pytest.param({0, 1, 2, 3}, (0, 1, 2), id="four"),
    ],
)
def test_the_client_has_a_cpu_of_its_own_if_there_is_one(
    cpus: set[int], chosen: tuple[int | None, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy never shares its CPU; client and upstream share one only if there are just two."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: cpus)
    assert chosen_cpus(pin=True) == chosen
    assert chosen_cpus(pin=False) == (None, None, None)


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
