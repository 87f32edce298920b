"""The bars of the comparison, and which of them apply.

Owns the limits. Must not measure, and must not import the `sidecar` package.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path


class Build(StrEnum):
    """How the measured sidecar was built: from the same source, with or without a compiler."""

    COMPILED = "compiled"
    INTERPRETED = "interpreted"


class Quantity(StrEnum):
    """What a bar compares."""

    CPU = "CPU per request"
    ADDED = "added p99 latency"


@dataclass(frozen=True, slots=True)
class Bar:
    """The maximum of a ratio; both sides are (proxy, scenario) pairs.

    Without a `build`, the bar applies to every sidecar.
    """

    title: str
    subject: tuple[str, str]
    against: tuple[str, str]
    at_most: float
    goal: float | None = None
    build: Build | None = None
    quantity: Quantity = Quantity.CPU


def both(scenario: str, peer: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """The sidecar and a peer, both in one scenario."""
    return ("sidecar", scenario), (peer, scenario)


COMPILED, INTERPRETED = Build.COMPILED, Build.INTERPRETED
BARS = (
    Bar("mixed ÷ HAProxy", *both("mixed", "haproxy"), 1.10, 0.95, COMPILED),
    Bar("mixed ÷ HAProxy", *both("mixed", "haproxy"), 1.45, 1.25, INTERPRETED),
    Bar(
        "verify, mixed ÷ HAProxy's proxied mixed",
        ("sidecar", "verify-mixed"),
        ("haproxy", "mixed"),
        0.8,
        0.65,
        COMPILED,
    ),
    Bar("mixed ÷ Envoy jwt_authn with cache", *both("mixed", "envoy-cache"), 0.6, 0.4),
    Bar("no token ÷ HAProxy", *both("no-token", "haproxy"), 2.0, 1.5, COMPILED),
    Bar("forged HS256 ÷ HAProxy", *both("forged", "haproxy"), 2.5, 1.7, COMPILED),
    Bar("fresh HS256 ÷ HAProxy", *both("fresh-hs256", "haproxy"), 2.2, 1.5, COMPILED),
    Bar("fresh RS256 ÷ Envoy without cache", *both("fresh-rs256", "envoy"), 1.0, 0.8),
    Bar(
        "added at half load ÷ added by HAProxy",
        *both("half-load", "haproxy"),
        1.5,
        1.0,
        quantity=Quantity.ADDED,
    ),
    Bar(
        "near cache on Redis, mixed ÷ local store",
        ("sidecar-redis", "mixed"),
        ("sidecar", "mixed"),
        1.1,
        1.0,
    ),
    Bar("small GET ÷ HAProxy", *both("small", "haproxy"), 0.90, 0.80, COMPILED),
    Bar("small GET ÷ HAProxy", *both("small", "haproxy"), 1.2, 0.9, INTERPRETED),
    Bar("small GET ÷ Caddy's plain proxy", *both("small", "caddy"), 0.5),
    Bar("verify ÷ proxied small GET", ("sidecar", "verify"), ("sidecar", "small"), 0.6),
    Bar("1 MiB ÷ HAProxy", *both("1m", "haproxy"), 1.2),
)


def bars_of(build: Build) -> list[Bar]:
    """The bars that apply to a sidecar of this build."""
    return [bar for bar in BARS if bar.build in {None, build}]


def installed_build() -> Build:
    """The build of the package that `python -m sidecar` runs: compiled if its parser is."""
    spec = find_spec("sidecar")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    return build_of([Path(folder) for folder in folders])


def build_of(folders: list[Path]) -> Build:
    """The build of a package in these folders, by whether `wire` has extension modules."""
    wire = [folder / "wire" for folder in folders]
    found = any(
        file.name.endswith(tuple(EXTENSION_SUFFIXES))
        for folder in wire
        if folder.is_dir()
        for file in folder.iterdir()
    )
    return Build.COMPILED if found else Build.INTERPRETED
